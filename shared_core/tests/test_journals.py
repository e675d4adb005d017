"""Many journals under one root: names, handles, removal beside users, forks."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from programs import Programs
from recording import Recording, failing

from landed import journals as module
from landed.engine import DIGITS
from landed.errors import Claimed, Corrupt, LandedError, LockTimeout, NotLanded, OutcomeUnknown, Refused, StaleWrite
from landed.journal import Journal
from landed.journals import Journals
from landed.local.collection import LocalCollection
from landed.local.frames import PAGE
from landed.local.log import LocalLog

NAMES = ["", "a", "A", "a/b", "../x", "sp ace", "é", "e\u0301", "\0", "\ud800", "x" * 5000, "0", "a\nb", "."]
APPEND = """
import sys
from landed.journals import Journals
journal = Journals(sys.argv[1]).open(sys.argv[2])
journal.append([b"theirs"])
print("appended", flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def journals(root: Path) -> Journals:
    return Journals(root)


def data(journal: Journal | None) -> list[bytes]:
    assert journal is not None
    return [entry.data for entry in journal.read()]


def test_any_name(journals: Journals, root: Path) -> None:
    for name in NAMES:
        assert journals.find(name) is None
        journals.open(name).append([name.encode("utf-8", "surrogatepass")])
    assert sorted(journals.names()) == sorted(NAMES)
    for each in (journals, Journals(root)):
        for name in NAMES:
            assert data(each.find(name)) == [name.encode("utf-8", "surrogatepass")]
    assert all(len(entry) == DIGITS for entry in os.listdir(root))


def test_find_makes_nothing(journals: Journals, root: Path) -> None:
    assert journals.find("a") is None
    assert os.listdir(root) == []
    assert list(journals.names()) == []


def test_one_handle_for_all(journals: Journals) -> None:
    with ThreadPoolExecutor(8) as threads:
        handles = list(threads.map(lambda _: journals.open("a"), range(64)))
    for each in {id(handle): handle for handle in handles}.values():
        each.append([b"x"])
    assert journals.find("a") is journals.open("a")


def test_a_handle_that_was_closed_is_not_given_out_again(journals: Journals) -> None:
    for _ in range(2):
        with journals.open("a") as journal:
            journal.append([b"x"])
    assert journals.open("a").tail == 2


def test_one_handle_for_all_who_make_it_at_once(journals: Journals, root: Path) -> None:
    """Who finds nothing, and is overtaken by who makes it, does not take the other's handle away."""
    stock = LocalCollection(str(root))
    made: list[Journal] = []

    class Overtaken(LocalCollection):
        def open(self, name: str, *, create: bool) -> LocalLog | None:
            found = super().open(name, create=create)
            if found is None:
                journals._collection = stock
                made.append(journals.open(name))
            return found

    journals._collection = Overtaken(str(root))
    assert journals.find("a") is None
    assert [journals.open("a")] == made


def test_handles_are_bounded(journals: Journals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_JOURNALS", 3)
    handles = [journals.open(str(number)) for number in range(10)]
    assert journals.find("9") is handles[9]
    assert journals.find("7") is handles[7]
    again = journals.find("0")
    assert again is not None
    assert again is not handles[0]
    handles[0].append([b"a handle that the pool let go still works"])
    assert len(data(again)) == 1


def test_another_process_made_it(journals: Journals, root: Path, programs: Programs) -> None:
    assert journals.find("a") is None
    programs.start(APPEND, root, "a").finish()
    assert data(journals.find("a")) == [b"theirs"]


def test_made_by_many_at_once(root: Path, programs: Programs) -> None:
    started = [programs.start(APPEND, root, "a") for _ in range(6)]
    for each in started:
        assert each.hear() == "appended"
        each.finish()
    assert data(Journals(root).find("a")) == [b"theirs"] * 6


def test_remove(journals: Journals, root: Path) -> None:
    journal = journals.open("a")
    journal.append([b"one"])
    journals.open("b").append([b"other"])
    assert journals.remove("a")
    assert not journals.remove("a")
    assert journals.find("a") is None
    assert list(journals.names()) == ["b"]
    assert len(os.listdir(root)) == 1
    with pytest.raises(NotLanded, match="gone"):
        journal.append([b"two"])
    assert data(journals.open("a")) == []


def test_remove_only_what_was_seen(journals: Journals, root: Path) -> None:
    tail = journals.open("a").append([b"one"]).tail
    Journals(root).open("a").append([b"two"])
    with pytest.raises(StaleWrite):
        journals.remove("a", expect=tail)
    assert data(journals.find("a")) == [b"one", b"two"]
    assert journals.remove("a", expect=tail + 1)
    assert not journals.remove("a", expect=0)


def test_remove_only_what_was_seen_before_a_writer_was_killed(journals: Journals, root: Path) -> None:
    journal = journals.open("a")
    tail = journal.append([b"x" * PAGE]).tail
    segment = Path(journal.path, "0000000001-0000000001.seg")
    journal.append([b"y" * 2 * PAGE])
    data = segment.read_bytes()
    segment.write_bytes(data[: 2 * PAGE].ljust(len(data), b"\0"))  # it stopped at a page
    with pytest.raises(StaleWrite):
        Journals(root).remove("a", expect=tail + 1)
    assert Journals(root).remove("a", expect=tail)


def test_remove_under_a_writer_that_goes_on(root: Path, journals: Journals) -> None:
    theirs = Journals(root)
    journal = theirs.open("a")
    journal.append([b"one"])
    assert journals.remove("a")
    journals.open("a").append([b"new"])
    with pytest.raises(NotLanded, match="another directory"):
        journal.append([b"two"])
    assert data(theirs.find("a")) == [b"new"]
    assert data(theirs.open("a")) == [b"new"]


def test_remove_beside_writers_and_makers(root: Path) -> None:
    """Every append that was acknowledged is in the journal that it was made to, or went with it: none is in between."""
    stop = threading.Event()
    appended: list[bytes] = []
    told: list[LandedError] = []

    def write(number: int) -> None:
        mine = Journals(root)
        count = 0
        while not stop.is_set():
            count += 1
            try:
                mine.open("a").append([b"%d-%d" % (number, count)])
            except (NotLanded, OutcomeUnknown) as error:
                told.append(error)
                mine.forget("a")
            else:
                appended.append(b"%d-%d" % (number, count))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    journals = Journals(root)
    for _ in range(30):
        journals.open("b").append([b"kept"])
        journals.remove("a")
    stop.set()
    for thread in threads:
        thread.join()
    assert appended
    assert list(journals.names()) == ["b"] or sorted(journals.names()) == ["a", "b"]
    left = journals.find("a")
    assert set(data(left) if left is not None else []) <= set(appended)
    assert len(data(journals.find("b"))) == 30


def test_remove_of_a_damaged_journal(journals: Journals, root: Path) -> None:
    path = Path(journals.open("a").path)
    for segment in path.glob("*.seg"):
        segment.write_bytes(b"damage")
    with pytest.raises(Corrupt):
        Journals(root).find("a")
    assert journals.remove("a")
    assert list(journals.names()) == []


def test_remove_waits_for_the_writer_and_not_for_ever(root: Path, journals: Journals) -> None:
    from landed.lock import Lock

    path = journals.open("a").path
    with Lock(os.path.join(path, "lock")), ThreadPoolExecutor(1) as thread, pytest.raises(LockTimeout):
        thread.submit(Journals(root, timeout=0.05).remove, "a").result()
    assert journals.remove("a")


def test_remove_of_what_somebody_owns_alone(root: Path, journals: Journals, programs: Programs) -> None:
    code = (
        "import sys; from landed.journals import Journals\n"
        "journal = Journals(sys.argv[1]).open('a').claim(); print('claimed', flush=True); input()"
    )
    owner = programs.start(code, root)
    assert owner.hear() == "claimed"
    with pytest.raises(Claimed, match=f"pid {owner.pid}"):
        journals.remove("a")
    owner.kill()
    assert journals.remove("a")


def test_what_a_dead_remover_left_is_swept(journals: Journals, root: Path) -> None:
    path = journals.open("a").path
    os.rename(path, root / ".removed-1234")
    assert list(journals.names()) == []
    journals.remove("nothing")
    assert os.listdir(root) == []


def test_what_a_dead_maker_left_is_swept_some_time(journals: Journals, root: Path) -> None:
    path = journals.open("a").path
    os.rename(path, root / ".new-1234")
    journals.remove("nothing")
    assert os.listdir(root) == [".new-1234"]
    os.utime(root / ".new-1234", (0, 0))
    journals.remove("nothing")
    assert os.listdir(root) == []


def test_segments_that_were_lost_are_no_empty_journal(journals: Journals, root: Path) -> None:
    path = Path(journals.open("a").path)
    journals.open("a").append([b"one"])
    for each in path.glob("*"):
        if each.name != "name":
            each.unlink()
    with pytest.raises(Corrupt):
        Journals(root).open("a")
    assert journals.remove("a")


def test_a_removal_that_cannot_be_flushed(root: Path, fs: Recording) -> None:
    collection = LocalCollection(str(root), fs=fs)
    made = collection.open("a", create=True)
    assert made is not None
    fs.before("fsync", failing(28), on=str(root))
    with pytest.raises(OutcomeUnknown, match="removal"):
        collection.remove("a", 1)


def test_the_root_is_not_made_again(journals: Journals, root: Path) -> None:
    journals.open("a").append([b"one"])
    shutil.rmtree(root)
    for operation in (journals.open, journals.find, journals.remove, journals.lock):
        with pytest.raises(NotLanded, match="root"):
            operation("b")
    with pytest.raises(NotLanded):
        journals.open("a")
    with pytest.raises(NotLanded):
        list(journals.names())
    assert not root.exists()
    root.mkdir()
    with pytest.raises(NotLanded, match="another directory"):
        journals.open("b")


def test_a_name_that_is_not_its_own(journals: Journals, root: Path) -> None:
    path = Path(journals.open("a").path)
    (path / "name").write_bytes(b"b")
    for look in (lambda: Journals(root).find("a"), lambda: list(journals.names())):
        with pytest.raises(Corrupt, match="name"):
            look()


def test_a_name_that_was_lost(journals: Journals, root: Path) -> None:
    path = Path(journals.open("a").path)
    journals.open("a").append([b"one"])
    (path / "name").unlink()
    with pytest.raises(Corrupt, match="lost its name"):
        list(journals.names())
    assert data(Journals(root).open("a")) == [b"one"]
    assert list(journals.names()) == ["a"]


def test_lock_goes_by_the_name_and_outlives_the_journal(journals: Journals, root: Path) -> None:
    with journals.lock("a"):
        journals.open("a").append([b"no append waits for it"])
        assert journals.remove("a")
        with ThreadPoolExecutor(1) as thread, pytest.raises(LockTimeout):
            thread.submit(Journals(root).lock("a").acquire, 0.05).result()
        with Journals(root).lock("A"):
            pass
    assert list(journals.names()) == []


def test_limit_of_each(root: Path) -> None:
    journals = Journals(root, max_bytes=8192)
    from landed.errors import Full

    with pytest.raises(Full):
        journals.open("a").append([bytes(10_000)])
    journals.open("b").append([b"small"])


def test_closed(journals: Journals) -> None:
    journal = journals.open("a")
    with journals:
        pass
    for use in (lambda: journals.find("a"), lambda: journal.append([b"x"])):
        with pytest.raises(Refused, match="closed"):
            use()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_forked_child_goes_on(journals: Journals) -> None:
    journals.open("a").append([b"parent"])
    with journals._guard:  # as another thread of the parent may hold it
        pid = os.fork()
        if pid == 0:
            try:
                journals.open("a").append([b"child"])
                os._exit(0)
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert data(journals.find("a")) == [b"parent", b"child"]


def test_many_journals_need_few_descriptors(journals: Journals) -> None:
    for number in range(600):
        journals.open(str(number)).append([b"x"])
    if os.path.isdir("/proc/self/fd"):
        assert len(os.listdir("/proc/self/fd")) < 450
    assert sum(1 for _ in journals.names()) == 600
