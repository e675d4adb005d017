"""Neighbours who put links, other files and other names where landed looks: nothing of anybody else's is touched.

SECURITY.md says whom landed trusts; here is what it does about those whom it does not.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from lab import workloads
from lab.workloads import slots
from lab.workloads.slots import Slots

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


def use_saver(root: Path, name: str) -> None:
    from langgraph.checkpoint.base import empty_checkpoint

    from langgraph.checkpoint.landed import LandedSaver

    with LandedSaver(root) as saver:
        config: Any = {"configurable": {"thread_id": name, "checkpoint_ns": name}}
        put = saver.put(config, empty_checkpoint(), {}, {})
        saver.put_writes(put, [(name, name)], task_id=name, task_path=name)
        (pending,) = saver.get_tuple(config).pending_writes
        assert pending == (name, name, name)


def use_memory(root: Path, name: str) -> None:
    from crewai.memory.types import MemoryRecord

    from crewai_landed import LandedStorage

    storage = LandedStorage(root)
    storage.save([MemoryRecord(id=name, content=name, scope=name, categories=[name], embedding=[1.0])])
    assert storage.get_record(name).content == name
    assert [record.id for record in storage.list_records(scope_prefix=name)] == [name]
    storage.reset(name)
    assert storage.get_record(name) is None
    storage.close()


def use_flows(root: Path, name: str) -> None:
    from crewai_landed import LandedFlowPersistence

    kept = LandedFlowPersistence(root)
    kept.save_state(name, name, {"id": name})
    assert kept.load_state(name) == {"id": name}
    kept.forget(name)
    assert kept.load_state(name) is None


def use_checkpoints(root: Path, name: str) -> None:
    from crewai_landed import LandedJsonProvider

    # A branch is a directory, which people are to find: CrewAI and landed refuse the others, each in its own way.
    with suppress(landed.NotLanded, ValueError):
        assert root in Path(LandedJsonProvider().checkpoint("{}", str(root), branch=name)).parents


def use_hook(root: Path, name: str) -> None:
    from lab.workloads import hooks

    work = hooks.Work()
    work.directory = root
    work.start()
    path = str(root / "file.txt")
    call = {"session_id": name, "agent_id": name, "tool_use_id": name, "tool_name": "Write"}
    for event in ("PreToolUse", "PostToolUse", "PostToolBatch", "Stop"):
        work._hook(event, {**call, "tool_input": {"file_path": path}, "tool_response": {"filePath": path}})


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # CrewAI's
@pytest.mark.parametrize(
    ("workload", "use"),
    [
        ("graph", use_saver),
        ("memory", use_memory),
        ("flow states", use_flows),
        ("checkpoints", use_checkpoints),
        ("hook", use_hook),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_given_to_frameworks_never_become_paths(
    workload: str, use: Callable[[Path, str], None], tmp_path: Path, store: Path
) -> None:
    """Thread ids, namespaces, tasks, ids of memories, scopes, flow ids, methods, branches, sessions and agents."""
    if workloads.missing(workload):
        pytest.skip(workloads.missing(workload))
    workloads.load(workload)  # imports its framework without the warnings of that
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    store.mkdir()
    for name in NAMES:
        use(root, name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "state"]
    assert os.listdir(root.parent) == ["root"]
    assert not {path.name for path in (*root.rglob("*"), *store.rglob("*"))} & {"outside", "passwd"}
    assert Path("/etc/passwd").is_file()
    assert not Path("/outside").exists()


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
from lab.workloads import slots
from lab.workloads.slots import Slots
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


class Bomb:
    """What a neighbour would have unpickled: it leaves a directory."""

    def __init__(self, crater: Path) -> None:
        self.crater = str(crater)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.crater,)


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # CrewAI's
@pytest.mark.parametrize("name", ["graph", "memory", "flow states"])
def test_pickle_in_the_place_of_a_record(name: str, tmp_path: Path) -> None:
    """In frames that check, by somebody who knows the format."""
    if workloads.missing(name):
        pytest.skip(workloads.missing(name))
    work, place, crater = workloads.load(name), tmp_path / "work", tmp_path / "crater"
    assert isinstance(work, Slots)
    work.run(place, lambda _: None, Random(1), 6)
    for journal_of in {path.parent for path in place.rglob("*.seg")}:
        with landed.Journal(journal_of) as journal:
            last = list(journal.read())[-1]
            data = pickle.dumps(Bomb(crater))
            if name == "memory":
                from crewai_landed.records import joined, parted

                data = joined(data, parted(last.data)[1])
            journal.append([landed.Record(data, last.key, last.kind)])
    told = 0
    for slot in slots.NAMES:
        work.open(place)
        try:
            work.get(slot)
        except landed.Corrupt:
            told += 1
        work.close()
    assert told, "nothing of this was read"
    assert not crater.exists()


def test_pickle_in_the_place_of_a_value(tmp_path: Path) -> None:
    """LangGraph's serializer unpickles what says that it is a pickle, if the user wants that; by default it refuses."""
    if workloads.missing("graph"):
        pytest.skip(workloads.missing("graph"))
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    from langgraph.checkpoint.landed import LandedSaver

    class Planting(JsonPlusSerializer):
        def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
            return "pickle", pickle.dumps(Bomb(crater))

    crater = tmp_path / "crater"
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    with LandedSaver(tmp_path / "work", serde=Planting()) as saver:
        saver.put(config, empty_checkpoint(), {}, {})
    with LandedSaver(tmp_path / "work") as saver, pytest.raises(NotImplementedError):
        saver.get_tuple(config)
    assert not crater.exists()
    with LandedSaver(tmp_path / "work", serde=JsonPlusSerializer(pickle_fallback=True)) as saver, suppress(Exception):
        saver.get_tuple(config)
    assert crater.exists(), "the pickle does nothing, so nothing was tested"
