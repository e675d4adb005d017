"""Neighbours who put links, other files and other names where landed looks: nothing of anybody else's is touched.

SECURITY.md says whom landed trusts; here is what it does about those whom it does not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lab import workloads

import landed

HERE = Path(__file__).parent
VICTIM = b"somebody else's bytes\n"
NAMES = [
    "../../outside",
    "/etc/passwd",
    "a/../b",
    "..",
    ".",
    "a\nb",
    "x" * 300,
    "\u00e9",
    "e\u0301",
    "CON",
    "a.",
    "seg",
]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and signals are POSIX's")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "outside" / "victim"
    path.parent.mkdir()
    path.write_bytes(VICTIM)
    return path


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    state = tmp_path / "state"
    monkeypatch.setenv("LANDED_STATE_DIR", str(state))
    return state


def outside(root: Path) -> list[str]:
    return [str(path) for path in sorted(root.parent.rglob("*")) if root not in (path, *path.parents)]


def test_names_of_users_never_become_paths(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    before = outside(root)
    journals = landed.Journals(root)
    for name in NAMES:
        journals.open(name).append([name.encode()])
    again = landed.Journals(root)
    assert sorted(again.names()) == sorted(NAMES)
    for name in NAMES:
        (entry,) = again.open(name).read()
        assert entry.data == name.encode()
    assert outside(root) == before
    assert all(len(path.name) < 100 for path in root.rglob("*"))


@pytest.mark.parametrize("suffix", [".lock", ".record", ".log"])
def test_link_in_the_place_of_what_landed_keeps(tmp_path: Path, victim: Path, store: Path, suffix: str) -> None:
    path = tmp_path / "file.txt"
    landed.write(path, "one")
    (kept,) = (store / "artifacts").glob(f"*{suffix}")
    kept.unlink()
    kept.symlink_to(victim)
    program = f"import landed; landed.write({str(path)!r}, 'two', expect=landed.ANY)"
    subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert victim.read_bytes() == VICTIM
    assert path.read_text() in {"one", "two"}


@pytest.mark.parametrize("which", ["lock", "*.seg"])
def test_link_in_the_place_of_a_journals_file(tmp_path: Path, victim: Path, which: str) -> None:
    place = tmp_path / "journal"
    with landed.Journal(place) as journal:
        journal.append([b"one"])
        (kept,) = place.glob(which)
        kept.unlink()
        kept.symlink_to(victim)
        with pytest.raises(landed.LandedError):
            journal.append([b"two"])
    with pytest.raises(landed.LandedError), landed.Journal(place) as journal:
        journal.append([b"three"])
    assert victim.read_bytes() == VICTIM


def test_target_swapped_for_links_during_writes(tmp_path: Path, victim: Path) -> None:
    """A hard link to somebody else's file takes the name at any moment: that file is not written."""
    path, stop = tmp_path / "work" / "file.txt", threading.Event()
    path.parent.mkdir()

    def swap() -> None:
        beside = path.with_name("swapped")
        while not stop.is_set():
            beside.unlink(missing_ok=True)
            os.link(victim, beside)
            beside.replace(path)
            path.unlink(missing_ok=True)

    neighbour = threading.Thread(target=swap)
    neighbour.start()
    told = []
    try:
        for number in range(150):
            try:
                landed.write(path, f"{number}\n", expect=landed.ANY)
                told.append("landed")
            except landed.LandedError as error:
                told.append(type(error).__name__)
    finally:
        stop.set()
        neighbour.join()
    assert victim.read_bytes() == VICTIM
    assert len(set(told)) > 1, f"the neighbour was never met: {told[:5]}"


def test_directory_replaced_under_a_journal(tmp_path: Path) -> None:
    place = tmp_path / "journal"
    with landed.Journal(place) as journal:
        journal.append([b"one"])
        place.rename(tmp_path / "moved")
        place.mkdir()
        with pytest.raises(landed.LandedError):
            journal.append([b"two"])
    with landed.Journal(tmp_path / "moved") as journal:
        assert [entry.data for entry in journal.read()] == [b"one"]


UNPICKLING = """
import sys
from pathlib import Path
from random import Random
from lab import workloads
work = workloads.load(sys.argv[1])  # what frameworks do while they are imported is theirs
def audit(event, arguments):
    if event == "pickle.find_class":
        raise SystemExit(f"unpickled {arguments}")
sys.addaudithook(audit)
marks = []
work.run(Path(sys.argv[2]), marks.append, Random(1), 6)
assert work.examine(Path(sys.argv[2]), marks) == []
"""


@pytest.mark.parametrize("name", [*workloads.CORE, *workloads.PACKAGES])
def test_stored_bytes_are_not_unpickled(name: str, tmp_path: Path) -> None:
    if workloads.missing(name):
        pytest.skip(workloads.missing(name))
    command = [sys.executable, "-c", UNPICKLING, name, str(tmp_path)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
