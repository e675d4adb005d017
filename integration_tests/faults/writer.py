"""One of many writers of one document: every attempt adds one line, its name, to what was there.

Run as ``python writer.py NAME HOW PATH NOTES STOP`` with landed on PYTHONPATH. Ends when STOP exists, or after
``LIMIT`` acknowledged attempts when that is set. The first line of the document counts the others.
"""

from __future__ import annotations

import os
import sys
import time

from histories import ACKED, REJECTED, UNKNOWN, Notes

import landed

WORK = 0.001
"""Seconds that a writer takes to make the next document of the last."""
RETRIES = 10_000


def extended(text: str, name: str) -> str:
    _, *names = text.splitlines() or ["0"]
    time.sleep(WORK)
    return "\n".join([str(len(names) + 1), *names, name]) + "\n"


def by_edit(path: str, name: str) -> str:
    with landed.edit(path) as draft:
        draft.text = extended(draft.text, name)
    assert draft.receipt is not None
    return str(draft.receipt.version)


def by_compare_and_swap(path: str, name: str) -> str:
    try:
        seen = landed.read(path)
    except FileNotFoundError:
        return str(landed.write(path, extended("", name), expect=landed.ABSENT).version)
    return str(landed.write(path, extended(seen.text, name), expect=seen).version)


def by_plain_write_under_filelock(path: str, name: str) -> str:
    """A program that has never heard of landed, but takes the same lock."""
    from filelock import FileLock

    with FileLock(os.environ["LOCK_FILE"]):
        with open(path) as file:
            text = file.read()
        with open(path, "w") as file:
            file.write(extended(text, name))
    return "-"


def by_append(path: str, name: str) -> str:
    """A record of a journal, and now and then a compaction that keeps all."""
    journal = landed.Journal(path) if (kept := _open.get(path)) is None else kept
    _open[path] = journal
    if name.endswith("7"):
        journal.compact(lambda _: True)
    try:
        return str(journal.append([name.encode(), b"and " + name.encode()]).tail)
    except landed.OutcomeUnknown:
        _open.pop(path).close()
        raise


_open: dict[str, landed.Journal] = {}

HOW = {"append": by_append, "edit": by_edit, "cas": by_compare_and_swap, "filelock": by_plain_write_under_filelock}


def main() -> None:
    worker, how, path, notes_path, stop = sys.argv[1:]
    notes = Notes(notes_path)
    acked, limit = 0, int(os.environ.get("LIMIT", "0"))
    for attempt in range(RETRIES):
        if os.path.exists(stop) or acked == limit > 0:
            return
        name = f"{worker}.{attempt}"
        notes.begin(name)
        try:
            version = HOW[how](path, name)
        except landed.NotLanded as error:
            notes.end(name, REJECTED, why=type(error).__name__)
        except landed.OutcomeUnknown as error:
            notes.end(name, UNKNOWN, why=type(error).__name__)
        else:
            notes.end(name, ACKED, version=version)
            acked += 1
    raise SystemExit("too many attempts")


if __name__ == "__main__":
    main()
