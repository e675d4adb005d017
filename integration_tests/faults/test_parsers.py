"""Bytes of anybody's making, given to every parser: an answer or the parser's own error, never another, never a hang.

Half of what is tried are mutations of good input, so that it gets past the first check.
"""

from __future__ import annotations

import importlib.util
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab import workloads
from lab.workloads.slots import NAMES, Slots

import landed
from landed import log, process
from landed.engine import Batch
from landed.entries import encode_batch
from landed.errors import Corrupt, LandedError
from landed.lease import Lease
from landed.local import frames
from landed.objects import head
from landed.records import Record, Write, next_write

EXAMPLES = 400
FORGED = 60
"""Records that somebody makes, of each store."""
ID = b"12345678"
NOW = next_write(1, "0" * 64, 5, "1-abcdefabcdef")


class Parser(NamedTuple):
    """A parser: what it is called with, what it may raise, and good input for it."""

    parse: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...]
    good: bytes


def as_text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


def a_record() -> bytes:
    record = Record("/a/path")
    record.counter, record.landed = 2, NOW
    return record.encode()


HEAD = frames.Head(64, frames.BATCH, 5, count=1, sequence=1, flushed=64, back=0, boot=1)
PARSERS = {
    "a frame": Parser(lambda data: frames.decode_frame(ID, 64, data), (), HEAD.encode(ID, b"hello")),
    "a segment's header": Parser(frames.Header.decode, (), frames.Header(4096, 1, 1, ID, 0, boot=1).encode()),
    "a record": Parser(Record.decode, (), a_record()),
    "a line of the log": Parser(as_text(Write.decode), (), NOW.encode().encode()),
    "a refusal in the log": Parser(
        as_text(log.Refusal.decode), (), log.Refusal("1-a", "2-b", process.me(), 1.0).encode().encode()
    ),
    "the records of a batch": Parser(
        lambda data: list(landed.entries.records(Batch(1, data, (0, 0, 0)), "a journal")),
        (Corrupt,),
        encode_batch([b"one", landed.Record(b"two", b"key", 7)])[0],
    ),
    "the head of a journal in a bucket": Parser(
        lambda data: head.Head.decode(data, "a journal"), (Corrupt,), head.Head("incarnation", "name").encode()
    ),
    "an owner": Parser(as_text(process.Owner.decode), (), process.me().encode().encode()),
    "a lease": Parser(as_text(Lease.decode), (), Lease("agent", "call", 1.0, 2.0, process.me()).encode().encode()),
}
if importlib.util.find_spec("landed_claude_code"):
    from landed_claude_code import ledger, wire

    PARSERS |= {
        "the hook's input": Parser(
            lambda raw: wire.decode([raw]), (ValueError,), b'{"hook_event_name": "PreToolUse", "tool_input": {}}'
        ),
        "a fact of the hook": Parser(as_text(ledger.Fact.decode), (), ledger.Fact("seen", "/a").encode().encode()),
    }
if importlib.util.find_spec("crewai_landed"):
    from crewai_landed import states

    PARSERS["a flow's state"] = Parser(states.decode, (LandedError,), states.encode({"a": [1]}).encode())
if importlib.util.find_spec("ormsgpack") and importlib.util.find_spec("langgraph.checkpoint.landed"):
    from langgraph.checkpoint.landed import records as saver_records

    FIELDS = saver_records.KINDS[1]
    PARSERS["a record of a saver"] = Parser(
        lambda data: saver_records.decode(1, data), (ValueError,), saver_records.encode(FIELDS(*FIELDS._fields))
    )


def mutated(good: bytes, seed: int) -> bytes:
    chance, data = Random(seed), bytearray(good)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(data) + 1)
        how = chance.randrange(4)
        if how == 0 and at < len(data):
            data[at] = chance.randrange(256)
        elif how == 1:
            del data[at:]
        elif how == 2:
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
        else:
            data[at : at + 8] = chance.choice((b"\xff" * 8, bytes(8), b"9" * 40))
    return bytes(data)


@pytest.mark.parametrize("name", PARSERS)
def test_parser(name: str) -> None:
    parser = PARSERS[name]

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.one_of(st.binary(max_size=300), st.integers(0, 1 << 32).map(lambda seed: mutated(parser.good, seed))))
    def anything(data: bytes) -> None:
        try:
            parser.parse(data)
        except parser.errors:
            return

    assert parser.parse(parser.good) is not None
    anything()


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # CrewAI's
@pytest.mark.parametrize("name", ["graph", "memory", "flow states"])
def test_records_of_anybodys_making(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that checks, with a record that landed did not make: an answer, or landed's own error, from the store."""
    if workloads.missing(name):
        pytest.skip(workloads.missing(name))
    told: Counter[str] = Counter()
    for seed in range(FORGED):
        place = tmp_path / f"{seed}"
        monkeypatch.setenv("LANDED_STATE_DIR", str(place / "state"))
        work, chance = workloads.load(name), Random(seed)
        assert isinstance(work, Slots)
        work.run(place / "work", lambda _: None, Random(1), 4)
        forge(chance.choice(sorted({path.parent for path in (place / "work").rglob("*.seg")})), seed)
        try:
            work.open(place / "work")
            try:
                for slot in NAMES:
                    work.get(slot)
                work.put(NAMES[0], "5:")
            finally:
                work.close()
        except LandedError as error:
            told[type(error).__name__] += 1
        except ValueError as error:  # of bytes that are for LangGraph's serializer, which the user chooses
            if (name, traceback.extract_tb(error.__traceback__)[-1].name) != ("graph", "loads_typed"):
                raise
    assert told["Corrupt"] > FORGED / 10, f"the forged records were never read: {told}"


def forge(place: Path, seed: int) -> None:
    """Append a copy of one of a journal's records that is changed somewhere, at times of another kind."""
    chance = Random(seed)
    with landed.Journal(place) as journal:
        entry = chance.choice(list(journal.read()))
        kind = entry.kind if chance.random() < 0.8 else chance.randrange(256)
        journal.append([landed.Record(mutated(entry.data, seed), entry.key, kind)])


def test_planted_bug_is_caught() -> None:
    """A parser that lets an error of its own out."""
    bad = Parser(lambda data: data.index(b"hello"), (), b"hello")
    PARSERS["planted"] = bad
    try:
        with pytest.raises(ValueError, match="subsection not found"):
            test_parser("planted")
    finally:
        del PARSERS["planted"]
