"""Whole files: create, replace, edit and delete, also in new directories, large and small."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import landed
import landed.audit
from lab.workloads import Workload

if TYPE_CHECKING:
    from pathlib import Path

    from lab.workloads import Mark

PATHS = ("a.txt", "b.txt", "new/deep/c.txt")
SIZES = (0, 40, 300, 4096, 5000, 40_000)


def content(number: int, size: int) -> bytes:
    """The bytes of operation `number`; no two operations have the same, but for the empty ones."""
    text = f"operation {number}\n".encode()
    return (text * (size // len(text) + 1))[:size] if size else b""


class Work(Workload):
    """The whole-file operations of landed."""

    def start(self) -> None:
        self._there: set[str] = set()
        for name in PATHS:
            with suppress(FileNotFoundError):
                landed.read(os.path.join(self.directory, name))  # settles what is unknown: else it is not written again

    def step(self) -> None:
        chance, number = self.chance, self.number
        name = chance.choice(PATHS)
        how = chance.choice(("write", "write", "edit", "delete")) if name in self._there else "write"
        size = None if how == "delete" else chance.choice(SIZES)
        if how == "edit" and size == 0:
            size = 40  # an edit that changes nothing writes nothing
        self.say({"begin": number, "name": name, "size": size})
        self._there.discard(name)
        version = self._do(os.path.join(self.directory, name), how, b"" if size is None else content(number, size))
        self.say({"acked": number, "version": version})
        if size is not None:
            self._there.add(name)

    def _do(self, path: str, how: str, data: bytes) -> str:
        if how == "write":
            return landed.write(path, data, expect=landed.ANY).version
        if how == "delete":
            return str(landed.delete(path, expect=landed.ANY).version)
        with landed.edit(path) as draft:
            draft.data = data
        assert draft.receipt is not None
        return draft.receipt.version

    def add(self, number: int) -> None:
        with landed.edit(os.path.join(self.directory, PATHS[0])) as draft:
            draft.text += f"{number} "

    def added(self) -> list[int]:
        return [int(word) for word in landed.read(os.path.join(self.directory, PATHS[0])).text.split()]

    def examine(self, directory: Path, marks: list[Mark]) -> list[str]:
        problems: list[str] = []
        expected = self._expected(marks)
        problems += self._audit(directory, marks)  # before anything is settled
        for name, (acked, possible) in expected.items():
            problems += self._examine_one(os.path.join(directory, name), acked, possible)
        return problems

    def _audit(self, directory: Path, marks: list[Mark]) -> list[str]:
        """What the audit says that is not so: that an acknowledged write is anything but intact."""
        acked = {mark["acked"]: mark["version"] for mark in marks if "acked" in mark}
        last = {mark["name"]: mark["begin"] for mark in marks if "begin" in mark}
        own = {os.path.join(directory, name) for name in last}
        interrupted = {os.path.join(directory, name) for name, number in last.items() if number not in acked}
        problems = []
        for finding in landed.audit.audit(*landed.audit.stores(str(directory))):
            write = finding.write.version if finding.write is not None else ""
            # In a soak others write below the directory as well, and are killed.
            excused = finding.path not in own or (finding.path in interrupted and write not in acked.values())
            allowed = {"intact", "unfinished", "damaged record"} if excused else {"intact"}
            if finding.path not in own:
                allowed.add("bypassed")  # by a tool whose hook met a bad disk: `lab.soak` knows of which file
            if finding.verdict not in allowed:
                problems.append(f"the audit says that {finding.path} is {finding.verdict}, {finding.detail}")
        return problems

    def _expected(self, marks: list[Mark]) -> dict[str, tuple[Mark | None, list[Mark]]]:
        """For each name the last write that was acknowledged, and those begun after it."""
        begun: dict[str, list[Mark]] = defaultdict(list)
        acked = {mark["acked"]: mark.get("version") for mark in marks if "acked" in mark}
        refused = {mark["failed"] for mark in marks if mark.get("landed") == "no"}
        for mark in marks:
            if "begin" in mark and mark["begin"] not in refused:
                begun[mark["name"]].append({**mark, "version": acked.get(mark["begin"])})
        found: dict[str, tuple[Mark | None, list[Mark]]] = {}
        for name, writes in begun.items():
            last = max((n for n, write in enumerate(writes) if write["version"]), default=-1)
            found[name] = (writes[last] if last >= 0 else None, writes[last + 1 :])
        return found

    def _examine_one(self, path: str, acked: Mark | None, possible: list[Mark]) -> list[str]:
        def bytes_of(mark: Mark | None) -> bytes | None:
            return None if mark is None or mark["size"] is None else content(mark["begin"], mark["size"])

        allowed = {bytes_of(acked), *map(bytes_of, possible)}
        seen: list[Any] = []
        for _ in range(2):  # what is settled once is settled
            try:
                snapshot = landed.read(path)
            except FileNotFoundError:
                if None not in allowed:
                    return [f"{path}: no file, acknowledged were {acked}"]
                seen.append(None)
            else:
                if snapshot.data not in allowed:
                    return [f"{path}: {len(snapshot.data)} bytes {snapshot.data[:30]!r}, acknowledged were {acked}"]
                if snapshot.origin != "landed":
                    return [f"{path}: landed's own bytes count as {snapshot.origin}"]
                if acked and snapshot.data == bytes_of(acked) and snapshot.version != acked["version"] and not possible:
                    return [f"{path}: version {snapshot.version}, acknowledged was {acked}"]
                seen.append((snapshot.data, snapshot.version))
                landed.verify(path)
        return [] if seen[0] == seen[1] else [f"{path}: {seen[0]!r:.80} at first, then {seen[1]!r:.80}"]
