"""Whole files at addresses: what `landed` promises of a path, on servers that lose answers and lie as well."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

import landed
from landed.cli import main
from landed.errors import Bypassed, NotLanded, OutcomeUnknown, Refused, StaleWrite, VerifyFailed
from landed.files import Files

pytest.importorskip("obstore", reason="obstore is not installed")

from clients import Faulty, lose_one_reply, put_twice_once

from landed.engines import _cells, open_cell
from landed.objects.cell import ObjectCell
from landed.objects.store import Object, Store
from landed.remote import LINEAGE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import psycopg
    from wire import Wire

TIMEOUT = 20.0


@pytest.fixture(params=["postgres", "s3", "azure", "google"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def plan(engine: str, request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{engine}_url")
    return f"{url}/plan.md"


def test_the_same_operations_as_on_a_path(plan: str) -> None:
    mine, theirs = Files(), Files()
    with pytest.raises(FileNotFoundError):
        mine.read(plan)
    first = mine.write(plan, "one\n")
    assert first.replaced is landed.ABSENT
    assert first.size == 4
    assert mine.write(plan, "two\n").replaced == first.version  # it has seen that
    with pytest.raises(StaleWrite) as stale:
        theirs.write(plan, "theirs\n")  # it has not
    assert f"pid {os.getpid()}" in (stale.value.writer or "")
    doc = theirs.read(plan)
    assert (doc.text, doc.origin) == ("two\n", "landed")
    with pytest.raises(StaleWrite):
        theirs.write(plan, b"new", expect=first.version)
    with pytest.raises(StaleWrite):
        theirs.write(plan, b"new", expect=landed.ABSENT)
    assert theirs.write(plan, b"three\n", expect=doc).replaced == doc.version
    with pytest.raises(StaleWrite):
        mine.write(plan, b"over it")  # it has seen two
    last = mine.write(plan, b"over it", expect=landed.ANY)
    assert mine.verify(plan).version == last.version
    with pytest.raises(StaleWrite):
        theirs.delete(plan)
    assert mine.delete(plan).version is landed.ABSENT
    with pytest.raises(FileNotFoundError):
        mine.read(plan)
    with pytest.raises(FileNotFoundError):
        mine.delete(plan)
    assert mine.verify(plan).version is landed.ABSENT
    again = mine.write(plan, b"over it")
    assert int(again.version.partition("-")[0]) > int(last.version.partition("-")[0])  # type: ignore[union-attr]


@pytest.mark.parametrize("data", [b"", b"\0" * 70_000, b"landed file 1 ", b"\n", "\u00e4\n".encode()])
def test_bytes_of_any_kind_come_back(plan: str, data: bytes) -> None:
    landed.write(plan, data)
    assert Files().read(plan).data == data


def test_versions_never_come_twice(plan: str) -> None:
    """A store may tell objects apart by their digest: the same bytes again are another version all the same."""
    mine, theirs = Files(), Files()
    first = mine.write(plan, b"A")
    theirs.write(plan, b"B", expect=landed.ANY)
    theirs.write(plan, b"A")
    with pytest.raises(StaleWrite):
        mine.write(plan, b"C", expect=first)
    assert Files().read(plan).data == b"A"


def test_editing(plan: str) -> None:
    files = Files()
    with files.edit(plan) as doc:
        assert doc.data == b""
        doc.text = "todo"
    assert doc.receipt is not None
    reader = Files()
    with reader.edit(plan) as doc:
        pass
    assert doc.receipt is None
    reader.write(plan, "todo")  # on what it has seen there
    with pytest.raises(ZeroDivisionError), files.edit(plan) as doc:
        break_off(doc)
    editing = files.edit(plan)
    with pytest.raises(StaleWrite), editing as doc:
        overtaken(doc, plan)
    assert Files().read(plan).text == "meanwhile"


def break_off(doc: Any) -> None:
    doc.data = None
    raise ZeroDivisionError


def overtaken(doc: landed.Draft, plan: str) -> None:
    doc.text = doc.text.replace("todo", "done")
    Files().write(plan, b"meanwhile", expect=landed.ANY)


def test_no_increment_is_lost(plan: str) -> None:
    Files().write(plan, b"0")

    def work() -> None:
        files = Files()
        for _ in range(5):
            for _ in range(200):
                try:
                    with files.edit(plan) as doc:
                        doc.text = str(int(doc.text) + 1)
                    break
                except StaleWrite:
                    continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Files().read(plan).text == "20"


def test_any_gets_through_among_others(plan: str) -> None:
    def work(name: str) -> None:
        for number in range(5):
            Files().write(plan, f"{name}{number}", expect=landed.ANY, timeout=TIMEOUT)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = Files().read(plan)
    assert last.version.startswith("15-")  # each was built on the one before


def test_bytes_that_something_else_put_there(plan: str, engine: str, request: pytest.FixtureRequest) -> None:
    cell = open_cell(plan)
    assert cell.put(b"from outside", None, time.monotonic() + TIMEOUT)
    files = Files()
    with pytest.raises(Bypassed):
        files.write(plan, b"mine")
    doc = files.read(plan)
    assert (doc.data, doc.origin, doc.version[:2]) == (b"from outside", "outside", "0+")
    with pytest.raises(VerifyFailed):
        files.verify(plan)
    files.write(plan, b"mine", expect=doc)
    held = cell.get(time.monotonic() + TIMEOUT)
    assert held is not None
    assert cell.put(held.data.replace(b"mine", b"edited"), held, time.monotonic() + TIMEOUT)
    doc = files.read(plan)
    assert (doc.data, doc.origin) == (b"edited", "outside")
    assert "+" in doc.version


@pytest.mark.parametrize("name", ["a b", "\u00e4", "100%", "a+b", "a=b"])
def test_an_object_bears_the_name_that_the_address_spells(s3_url: str, name: str) -> None:
    store = Store(s3_url)
    store.put(name, b"from outside", None)
    for place in (f"{s3_url}/{name}", f"{s3_url}/{quote(name)}"):
        assert landed.read(place).data == b"from outside"
    landed.write(f"{s3_url}/{name}", b"mine")
    held = store.get(name)
    assert isinstance(held, Object)
    assert held.data.endswith(b"\nmine")


# Answers that are lost.


@pytest.mark.parametrize("answers", range(6))
@pytest.mark.parametrize("kind", ["postgres", "s3"])
def test_a_lost_answer_is_told_from_a_conflict(kind: str, answers: int, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(f"{kind}_wired") + "/plan.md"
    wire: Wire = request.getfixturevalue(f"{kind}_wire")
    files = Files()
    files.write(url, b"first")
    wire.lose_answers = answers
    before = files.read(url)
    for number in range(6):
        receipt = files.write(url, b"%d" % number, timeout=TIMEOUT)
        assert receipt.replaced == before.version  # it landed once
        before = files.read(url)
        assert before.data == b"%d" % number
    assert wire.lost == 1


@pytest.mark.parametrize("lost", [False, True], ids=["acknowledged", "lost"])
@pytest.mark.parametrize("others", [1, 2, LINEAGE])
def test_a_write_that_others_were_built_on_has_landed(s3_url: str, others: int, lost: bool) -> None:
    """What is there by the time that it is read back names the writes that it was built on."""
    plan = f"{s3_url}/plan.md"
    mine, theirs = Files(), Files()
    mine.write(plan, b"one")
    client = followed(plan, others, theirs, lost=lost)
    receipt = mine.write(plan, b"two")
    client.mend()
    assert theirs.read(plan).data == b"%d on top" % others
    with pytest.raises(StaleWrite):
        mine.write(plan, b"three")
    assert receipt.size == 3


@pytest.mark.parametrize("lost", [False, True], ids=["acknowledged", "lost"])
def test_a_write_that_more_others_followed_than_are_named_is_unknown(s3_url: str, lost: bool) -> None:
    plan = f"{s3_url}/plan.md"
    mine, theirs = Files(), Files()
    mine.write(plan, b"one")
    client = followed(plan, LINEAGE + 1, theirs, lost=lost)
    with pytest.raises(OutcomeUnknown):
        mine.write(plan, b"two")
    client.mend()
    with pytest.raises(OutcomeUnknown):
        mine.write(plan, b"three", expect=landed.ANY)  # until it has been read again
    assert mine.read(plan).data == b"%d on top" % (LINEAGE + 1)
    mine.write(plan, b"three")


@pytest.mark.parametrize("expect", ["seen", landed.ANY])
def test_a_put_that_something_on_the_way_tried_twice_has_landed(s3_url: str, expect: Any) -> None:
    plan = f"{s3_url}/plan.md"
    files = Files()
    first = files.write(plan, b"one")
    client = faulty(plan, put_twice_once())
    receipt = files.write(plan, b"two", expect=first.version if expect == "seen" else expect)
    client.mend()
    assert receipt.replaced == first.version
    assert files.read(plan).version == receipt.version


def test_a_put_that_ends_after_the_timeout_is_not_begun_again(s3_url: str) -> None:
    plan, tries = f"{s3_url}/plan.md", []

    def late(*_: object) -> None:
        tries.append(time.sleep(0.02))
        raise OSError("it came too late")

    client = faulty(plan, late)
    with pytest.raises(OutcomeUnknown, match="it came too late"):
        landed.write(plan, b"one", expect=landed.ABSENT, timeout=0.01)
    client.mend()
    assert len(tries) == 1


def faulty(plan: str, fault: Callable[[Callable[[], Any], str], Any]) -> Faulty:
    cell = open_cell(plan)
    assert isinstance(cell, ObjectCell)
    return Faulty(cell._store, fault)


def followed(plan: str, others: int, theirs: Files, *, lost: bool) -> Faulty:
    """The next put there is followed by `others` more before its writer can look, and its answer may be lost."""
    lose = lose_one_reply()
    armed = [True]

    def fault(put: Callable[[], Any], key: str) -> Any:
        if not armed:
            return put()
        armed.clear()
        try:
            return lose(put, key) if lost else put()
        finally:
            for number in range(1, others + 1):
                theirs.write(plan, b"%d on top" % number, expect=landed.ANY)

    return faulty(plan, fault)


@pytest.mark.parametrize("kind", ["postgres", "s3"])
def test_a_server_out_of_reach_in_time(kind: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(f"{kind}_wired") + "/plan.md"
    wire: Wire = request.getfixturevalue(f"{kind}_wire")
    files = Files()
    files.write(url, b"one")
    wire.cut()
    started = time.monotonic()
    with pytest.raises(NotLanded):
        files.write(url, b"two", timeout=0.5)
    assert time.monotonic() - started < 20
    wire.mend()
    assert files.write(url, b"two").size == 3


# Engines that lie, and what is refused.


@pytest.mark.parametrize("lie", ["nothing was put", "other bytes were put"])
def test_a_lying_store_is_found_out(s3_url: str, lie: str) -> None:
    plan = f"{s3_url}/plan.md"
    files = Files()
    files.write(plan, b"one")

    def fault(put: Callable[[], Any], key: str) -> Any:
        if lie == "other bytes were put":
            client._client.put(key, b"other")
        return {"e_tag": '"made up"', "version": None}

    client = faulty(plan, fault)
    with pytest.raises(VerifyFailed):
        files.write(plan, b"two")
    client.mend()
    with pytest.raises(OutcomeUnknown):
        files.write(plan, b"three")
    files.read(plan)
    files.write(plan, b"three")


@pytest.mark.parametrize("body", ["new.data = old.data; RETURN new;", "new.data = 'other'; RETURN new;"])
def test_a_lying_server_is_found_out(postgres_url: str, sql: psycopg.Connection, body: str) -> None:
    plan = f"{postgres_url}/plan.md"
    files = Files()
    files.write(plan, b"one")
    sql.execute(
        f"CREATE OR REPLACE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
        "CREATE OR REPLACE TRIGGER lie BEFORE UPDATE ON landed_file FOR EACH ROW EXECUTE FUNCTION lie()"
    )
    try:
        with pytest.raises(VerifyFailed):
            files.write(plan, b"two")
    finally:
        sql.execute("DROP TRIGGER lie ON landed_file")


def test_what_an_engine_cannot_do_is_refused(plan: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused, match="device"):
        landed.write(plan, b"x", verify="device")
    with pytest.raises(Refused, match="verify is one of"):
        landed.write(plan, b"x", verify="none")
    with pytest.raises(Refused, match="expect is"):
        landed.delete(plan, expect=5)  # type: ignore[arg-type]
    with pytest.raises(Refused):
        landed.write(plan.replace("://", "x://", 1), b"x")
    for command in (["status", plan], ["log", plan], ["init", plan], ["audit", plan], ["journal", "verify", plan]):
        assert main(command) != 0
        assert "directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["s3://bucket", "s3://bucket/", "s3://key:word@bucket/plan.md", "s3://bucket/landed-store"]
)
def test_an_address_that_is_no_files(s3: object, url: str) -> None:
    with pytest.raises(Refused) as refused:
        landed.write(url, b"x")
    assert "word" not in f"{refused.value} {refused.value.__dict__}"


def test_a_database_is_no_file(postgres_url: str) -> None:
    with pytest.raises(Refused):
        landed.read(postgres_url.rpartition("/")[0])


def test_a_password_is_nowhere(postgres_url: str) -> None:
    plan = postgres_url.replace("landed@", "landed:s3cret@") + "/plan.md"
    receipt = landed.write(plan, b"x")
    with pytest.raises(StaleWrite) as stale:
        landed.write(plan, b"y", expect=landed.ABSENT)
    assert "s3cret" not in f"{receipt!r} {stale.value} {stale.value.__dict__} {landed.read(plan).path}"
    assert any("s3cret" in key[0] for key in _cells), "a test that could not fail"


# The other ways in.


def test_with_asyncio(plan: str) -> None:
    async def work() -> None:
        receipt = await landed.aio.write(plan, b"one")
        assert (await landed.aio.read(plan)).version == receipt.version
        async with landed.aio.edit(plan) as doc:
            doc.text += " and two"
        assert (await landed.aio.verify(plan)).size == 11
        await landed.aio.delete(plan)

    asyncio.run(work())


def test_the_command(plan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"hello\n")
    assert main(["write", plan, str(source)]) == 0
    assert "a new file" in capsys.readouterr().out
    assert main(["cat", plan, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["text"], document["path"]) == ("hello\n", open_cell(plan).name)
    assert main(["write", plan, str(source)]) == 1
    assert "--expect" in capsys.readouterr().err
    assert main(["write", plan, str(source), "--expect", document["version"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"].startswith("2-")
    assert main(["verify", plan]) == 0
    assert "verified" in capsys.readouterr().out
