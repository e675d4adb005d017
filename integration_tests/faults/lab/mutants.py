"""Bugs to plant in landed and its hook: a piece of source and what stands in its place, for real processes to import.

Which layer must see which bug is said with each; a layer that does not is no proof of anything. The text must stand in
exactly one file of landed: if it is no longer there, the bug cannot be planted, and that fails.
"""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import landed

if TYPE_CHECKING:
    from collections.abc import Iterator

HOOK = importlib.util.find_spec("landed_claude_code")
SOURCES = [Path(landed.__file__).parent, *(Path(place) for place in (HOOK and HOOK.submodule_search_locations) or ())]


class Mutant(NamedTuple):
    """A bug.

    Attributes:
        old: text of landed's source.
        new: what takes its place.
        cut: a workload that shows it under power cuts; "" where they cannot.
        disk: a workload and the fault of `lab.bad_disk` that show it; "" where a bad disk cannot.
    """

    old: str
    new: str
    cut: str = ""
    disk: str = ""


FILES, JOURNAL = "files", "journal"
MUTANTS = {
    # Whole files.
    "no flush of the bytes": Mutant(
        '            step = "sync"\n            fs.fsync(fd)\n', '            step = "sync"\n', FILES
    ),
    "no flush of the name": Mutant(
        "    try:\n        directory.sync()\n    except OSError as error:\n"
        '        raise failed_step(OutcomeUnknown, error, path, "sync directory") from error\n    # 7.',
        "    # 7.",
        FILES,
    ),
    "no flush of a deleted name": Mutant(
        "    try:\n        directory.sync()\n    except OSError as error:\n"
        '        raise failed_step(OutcomeUnknown, error, path, "sync directory") from error\n'
        "    try:\n        fs.stat",
        "    try:\n        fs.stat",
        FILES,
    ),
    "no flush at all": Mutant("        _system.fsync(fd)\n", "        pass\n", FILES),
    "no tag": Mutant("        fs.setxattr(fd, XATTR, tag)\n", "        pass\n", FILES),
    "failed flush tried again": Mutant(
        "        _system.fsync(fd)\n",
        "        try:\n            _system.fsync(fd)\n        except OSError:\n            _system.fsync(fd)\n",
        disk="files write",
    ),
    "error of a flush swallowed": Mutant(
        "        _system.fsync(fd)\n",
        "        try:\n            _system.fsync(fd)\n        except OSError:\n            pass\n",
        disk="files write",
    ),
    "error of a write swallowed": Mutant(
        "        written = fs.write(fd, rest[:piece] if piece is not None else rest)\n",
        "        try:\n            written = fs.write(fd, rest[:piece] if piece is not None else rest)\n"
        "        except OSError:\n            return\n",
        disk="files bytes",
    ),
    # The journal.
    "failed flush of an append tried again": Mutant(
        "        self._fs.fdatasync(self.fd)\n",
        "        try:\n            self._fs.fdatasync(self.fd)\n        except OSError:\n"
        "            self._fs.fdatasync(self.fd)\n",
        disk="journal write",
    ),
    "error of an append's flush swallowed": Mutant(
        "        self._fs.fdatasync(self.fd)\n",
        "        try:\n            self._fs.fdatasync(self.fd)\n        except OSError:\n            pass\n",
        disk="journal write",
    ),
    "no flush of an append": Mutant("self._fs.fdatasync(self.fd)", "pass", JOURNAL),
    "no flush of a compacted segment": Mutant("self._fs.fsync(self.fd)", "pass", JOURNAL),
    "no flush of any name": Mutant(
        "        if self._fd is not None:\n            self._fs.fsync(self._fd)\n", "        pass\n", JOURNAL
    ),
    # The hook for Claude Code.
    "no flush of a name that a tool wrote": Mutant(
        "    for _ in range(made + 1):\n", "    for _ in range(0):\n", "hook"
    ),
}


@contextmanager
def planted(name: str, directory: Path) -> Iterator[str]:
    """A directory to import a landed from that has the bug."""
    mutant = MUTANTS[name]
    root = directory / "planted"
    for source in SOURCES:
        shutil.copytree(source, root / source.name, ignore=shutil.ignore_patterns("*.pyc"))
    try:
        found = [path for path in root.rglob("*.py") if mutant.old in path.read_text()]
        assert len(found) == 1, f"{name}: no longer in the source" if not found else f"{name}: in {found}"
        found[0].write_text(found[0].read_text().replace(mutant.old, mutant.new))
        yield str(root)
    finally:
        shutil.rmtree(root)
