"""Journals, alone and below a root, and what the command does to them; a directory that gets its own store.

`test_kill_at_every_call` has the operations on whole files.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING

import landed
import landed.audit
from lab.operations import Bug, Operation, Store
from landed import copying
from landed.cli import main
from landed.local.collection import LocalCollection
from landed.local.salvage import salvage

if TYPE_CHECKING:
    from pathlib import Path

    from lab.operations import View

NEXT = b"next"
SMALL = [b"one", b"two", b"drop three"]
LARGE = [letter * 20_000 for letter in (b"a", b"b", b"c")]
"""Together nearly all of a journal's first segment."""


def command(*words: object) -> None:
    """Run a command of landed's, with nobody to read what it prints."""
    with open(os.devnull, "w") as nobody, contextlib.redirect_stdout(nobody), contextlib.redirect_stderr(nobody):
        code = main([str(word) for word in words])
    assert code == 0, f"it exits with {code}"


# A journal.


def _entries(journal: landed.Journal) -> View:
    found: dict[str, list[int]] = {}
    for entry in journal.read():
        found.setdefault(entry.data.decode()[:20], []).append(entry.sequence)
    return {**found}


def _look(name: str, directory: Path) -> View:
    if not (directory / name).exists():
        return {}
    with landed.Journal(directory / name) as journal:
        return _entries(journal)


def _append(name: str, records: list[bytes], directory: Path, *, expect: int | None = None) -> None:
    with landed.Journal(directory / name) as journal:
        journal.append(records, expect=expect)


def _journal(name: str) -> Store:
    return Store(partial(_look, name), partial(_append, name, [NEXT]))


def _small(directory: Path) -> None:
    _append("journal", SMALL, directory)


def _full(directory: Path) -> None:
    _append("journal", [*SMALL, *LARGE], directory)


def _segments(directory: Path) -> None:
    """Three segments, in each something to drop."""
    for letter in "xyz":
        _append("journal", [f"drop {letter}".encode(), letter.encode() * 60_000], directory)


def _compact(directory: Path) -> None:
    with landed.Journal(directory / "journal") as journal:
        journal.compact(lambda entry: not entry.data.startswith(b"drop"))


def _claim(directory: Path) -> None:
    with landed.Journal(directory / "journal").claim() as journal:
        journal.append([b"mine"], expect=len(SMALL))


def _damaged(directory: Path) -> None:
    """A journal with a byte flipped in its second segment."""
    _segments(directory)
    segment = sorted((directory / "journal").glob("*.seg"))[1]
    data = bytearray(segment.read_bytes())
    data[200] ^= 1
    segment.write_bytes(data)


def _salvage(directory: Path) -> None:
    salvage(directory / "journal", directory / "salvaged")


# Journals below a root.


def _look_at_root(name: str, directory: Path) -> View:
    if not (directory / name).exists():
        return {}
    found: View = {}
    journals = landed.Journals(directory / name)
    for journal in sorted(journals.names()):
        opened = journals.find(journal)
        assert opened is not None
        found |= {f"{journal} {key}": value for key, value in _entries(opened).items()}
    journals.close()
    return found


def _append_in_root(root: str, name: str, records: list[bytes], directory: Path, expect: int | None = None) -> None:
    journals = landed.Journals(directory / root)
    journals.open(name).append(records, expect=expect)
    journals.close()


def _root(name: str) -> Store:
    go_on = partial(_append_in_root, name, "one", [NEXT])
    return Store(partial(_look_at_root, name), go_on, frozenset({"one next"}))


def _two(directory: Path) -> None:
    for name in ("one", "two"):
        for number in range(3):
            _append_in_root("root", name, [f"{number}".encode(), b"more %d" % number], directory)


def _remove(directory: Path) -> None:
    journals = landed.Journals(directory / "root")
    journals.remove("one")
    journals.close()


def _batch(key: str) -> str:
    name, _, what = key.partition(" ")
    return f"{name} {what.removeprefix('more ')}"


# Whole files whose directory gets a store.


def _look_at_files(directory: Path) -> View:
    files = sorted((directory / "work").glob("*.txt"))
    verdicts = {found.path: found.verdict for found in landed.audit.audit(*landed.audit.stores(str(directory)))}
    found: View = {}
    for path in files:
        snapshot = landed.read(path)
        found[path.name] = [snapshot.text, snapshot.version, verdicts.get(str(path))]
    return found


def _write_next(directory: Path) -> None:
    landed.write(directory / "work" / "next.txt", NEXT, expect=landed.ANY)


def _files(directory: Path) -> None:
    (directory / "work").mkdir()
    for name in ("a.txt", "b.txt"):
        for text in ("old", "new"):
            landed.write(directory / "work" / name, f"{text} {name}", expect=landed.ANY)


JOURNAL, ROOT = _journal("journal"), _root("root")
OPERATIONS = {
    "Journal.append, the first": Operation(
        JOURNAL, partial(_append, "journal", SMALL, expect=0), refuses_again="StaleWrite"
    ),
    "Journal.append": Operation(
        JOURNAL, partial(_append, "journal", [b"four", b"five"], expect=3), _small, refuses_again="StaleWrite"
    ),
    "Journal.append that rolls": Operation(
        JOURNAL, partial(_append, "journal", [b"d" * 20_000, b"e"], expect=6), _full, refuses_again="StaleWrite"
    ),
    "Journal.compact": Operation(JOURNAL, _compact, _segments),
    "Journal.claim": Operation(JOURNAL, _claim, _small, refuses_again="StaleWrite"),
    "Journals.open": Operation(
        ROOT, partial(_append_in_root, "root", "one", SMALL, expect=0), refuses_again="StaleWrite"
    ),
    "Journals.remove": Operation(ROOT, _remove, _two),
    "salvage of a journal": Operation(
        _journal("salvaged"),
        _salvage,
        _damaged,
        refuses_again="Refused",
    ),
    "landed copy": Operation(
        _journal("copy"),
        lambda directory: command("copy", directory / "journal", directory / "copy"),
        _segments,
        lambda key: key.removeprefix("drop ")[0],
    ),
    "landed copy of a root": Operation(
        _root("copy"), lambda directory: command("copy", directory / "root", directory / "copy"), _two, _batch
    ),
    "landed init": Operation(
        Store(_look_at_files, _write_next, frozenset({"next.txt"})),
        lambda directory: command("init", directory / "work"),
        _files,
    ),
}
"""The public write operations that are not on one whole file."""


# Bugs.


def _batch_by_batch() -> None:
    real = landed.Journal.append

    def append(self: landed.Journal, records: list[bytes], *, expect: int | None = None) -> landed.Appended:
        for record in records:
            done = real(self, [record], expect=expect)
            expect = None
        return done

    landed.Journal.append = append


def _nothing_appended() -> None:
    landed.Journal.append = lambda *_, **__: None


def _file_by_file() -> None:
    LocalCollection._rename = lambda self, path, _: self._clear(path)


def _all_but_the_last() -> None:
    real = copying._commits
    copying._commits = lambda source, _, tail: real(source, 0, tail - 2)
    copying._same = lambda *_, **__: True


BUGS = {
    "each record is a batch": Bug("Journal.append", _batch_by_batch),
    "acknowledged, and not appended": Bug("Journals.open", _nothing_appended),
    "a journal is removed file by file": Bug("Journals.remove", _file_by_file),
    "a copy lacks the last batch": Bug("landed copy", _all_but_the_last),
}
