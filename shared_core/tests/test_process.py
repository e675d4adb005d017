"""Who a process is, and whether it still lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from landed import _fs, process
from landed.process import Owner, boot_id, me, start_token

if TYPE_CHECKING:
    from pathlib import Path

    from programs import Programs

linux = pytest.mark.skipif(sys.platform != "linux", reason="start times are read from /proc")


def test_this_process_is_alive() -> None:
    assert me().pid == os.getpid()
    assert me().host == os.uname().nodename
    assert me().alive() is True
    assert me() is me()


def test_an_owner_comes_back_from_its_line() -> None:
    owner = Owner(12, "boot.34", "host", "a program with spaces")
    assert Owner.decode(owner.encode()) == owner
    assert hash(Owner.decode(owner.encode())) == hash(owner)
    assert str(owner) == "a program with spaces (pid 12 on host)"
    assert owner != Owner(12, "boot.35", "host", "a program with spaces")
    assert owner != owner.encode()
    assert owner.encode() in repr(owner)


@pytest.mark.parametrize("line", ["", "12", "12 boot host", "x boot host program", "-1 boot host program", "1.5 a b c"])
def test_what_is_no_owner_is_none(line: str) -> None:
    assert Owner.decode(line) is None


@linux
def test_a_number_that_was_given_out_again_is_another_process() -> None:
    here, _, _ = me().started.rpartition(".")
    assert Owner(os.getpid(), f"{here}.1", me().host, "an earlier one").alive() is False
    assert Owner(os.getpid(), "00000000.4026531836.1", me().host, "of an earlier boot").alive() is False


def test_another_host_cannot_be_told() -> None:
    assert Owner(1, "x", "another-host", "p").alive() is None


@linux
def test_a_dead_process_and_a_zombie_are_not_alive(programs: Programs) -> None:
    program = programs.start("import sys; print(flush=True); sys.stdin.readline()")
    program.hear()
    owner = Owner(program.pid, start_token(program.pid), me().host, "p")
    assert owner.alive() is True
    program.signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while owner.alive():  # a zombie until it is waited for
        assert time.monotonic() < deadline
    assert os.path.exists(f"/proc/{program.pid}")
    program.kill()
    assert owner.alive() is False


@linux
def test_a_stopped_process_is_alive(programs: Programs) -> None:
    program = programs.start("import sys; print(flush=True); sys.stdin.readline()")
    program.hear()
    program.signal(signal.SIGSTOP)
    assert Owner(program.pid, start_token(program.pid), me().host, "p").alive() is True


@linux
def test_the_name_of_a_program_may_hold_anything(programs: Programs) -> None:
    source = """
        import sys
        with open("/proc/self/comm", "w") as file:
            file.write(") R 1 (")
        from landed.process import me
        with open("/proc/self/stat") as file:
            ticks = file.read().rsplit(")", 1)[1].split()[19]
        print(me().alive(), me().started, ticks)
    """
    alive, started, ticks = programs.run(source)[0].split()
    assert alive == "True"
    assert started == f"{boot_id()[:8]}.{os.stat('/proc/self/ns/pid').st_ino}.{ticks}"


@linux
def test_without_a_boot_id_nothing_is_called_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = me()
    monkeypatch.setattr(process, "_boot_id", "")
    assert start_token(owner.pid) == "-"
    assert owner.alive() is None
    assert not owner.before_this_boot()


@linux
@pytest.mark.parametrize("line", ["-", "", ".4026531836.1"])
def test_who_was_recorded_without_a_start_time_is_not_called_dead(line: str) -> None:
    owner = Owner.decode(Owner(2**22 - 1, line, me().host, "p").encode())
    assert owner is not None
    assert owner.alive() is None
    assert not owner.before_this_boot()


@linux
def test_a_process_that_proc_hides_is_not_called_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, real = Owner(1, start_token(1), me().host, "p"), os.open

    def hide(path: str, *args: int) -> int:
        if path == "/proc/1/stat":
            raise FileNotFoundError
        return real(path, *args)

    monkeypatch.setattr(_fs.posix, "open", hide)
    assert owner.alive() is None


INSIDE = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
"""Runs a program in a namespace of process ids of its own, as a container does."""
WITHIN = """
    import subprocess, sys
    source = "import sys; from landed.process import me; print(me().encode(), flush=True); sys.stdin.readline()"
    inside = subprocess.Popen([*sys.argv[1:], sys.executable, "-c", source], stdin=subprocess.PIPE)
    sys.stdin.readline()
    inside.communicate(b"\\n")
"""


@linux
@pytest.mark.parametrize("own_proc", [True, False], ids=["its own proc", "the proc of its host"])
def test_a_process_in_a_container_is_not_called_dead(programs: Programs, own_proc: bool) -> None:
    command = [*INSIDE, *(["--mount-proc"] if own_proc else [])]
    try:
        subprocess.run([*command, "true"], capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no namespace of process ids can be made here: {error}")
    program = programs.start(WITHIN, *command)
    owner = Owner.decode(program.hear())
    assert owner is not None
    assert owner.host == me().host
    assert (owner.pid, owner.started == "-") == (1, not own_proc)
    assert owner.alive() is None
    program.say()
    program.finish()


@linux
def test_start_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start_token(2**30) == ""
    assert start_token(os.getpid()) == start_token(os.getpid())
    assert start_token(os.getpid()) != start_token(os.getppid())


@linux
def test_without_proc_nothing_is_called_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    owner = me()
    monkeypatch.setattr(_fs.posix, "open", refuse)
    assert start_token(owner.pid) == "-"
    assert owner.alive() is None


def test_a_child_is_another_process(programs: Programs) -> None:
    source = """
        import os
        from landed.process import me
        parent = me()
        pid = os.fork()
        if pid == 0:
            os._exit(0 if me().pid == os.getpid() and me() != parent and me().alive() else 1)
        print(os.waitpid(pid, 0)[1])
    """
    assert programs.run(source) == ["0"]


def test_the_program_is_named_by_its_script_or_the_environment(programs: Programs, tmp_path: Path) -> None:
    script = tmp_path / "my tool.py"
    script.write_text("from landed.process import me; print(me().program)")
    start = """
        import os, sys
        os.environ["LANDED_PROGRAM"] = sys.argv[2]
        os.execv(sys.executable, [sys.executable, sys.argv[1]])
    """
    assert programs.run(start, script, "") == ["my tool.py"]
    assert programs.run(start, script, "agent 7") == ["agent 7"]
    assert programs.run(start, script, "two\nlines") == ["two lines"]
    assert programs.run("from landed.process import me; print(me().program)") == ["python3"]


@pytest.mark.parametrize(("first", "name"), [("-", "python3"), ("", "python3"), ("/usr/agents/__main__.py", "agents")])
def test_a_program_without_a_script_of_its_own_has_a_name(
    monkeypatch: pytest.MonkeyPatch, first: str, name: str
) -> None:
    monkeypatch.setattr(sys, "argv", [first])
    monkeypatch.setattr(process, "_me", None)
    assert me().program == name


def test_the_boot_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert boot_id() == boot_id()
    monkeypatch.setattr(process, "_boot_id", None)
    monkeypatch.setattr(sys, "platform", "win32")
    assert boot_id() == ""
