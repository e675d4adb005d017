"""Who a process is, and whether it still lives: pid, start time, host, program.

The text is for messages and reports. Mutual exclusion never rests on it; the kernel's locks decide that.
"""

from __future__ import annotations

import sys

from landed._fs import SEP, environ, posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_FIELDS: Final = 4
BOOT_SHOWN: Final = 8
"""Digits of the boot id in a start time."""


class Owner:
    """One process.

    Attributes:
        pid: process id, in the process-id namespace of `host`.
        started: start time as an opaque token; equal tokens of equal pids on one host mean the same process. On Linux
            ``<boot>.<namespace of process ids>.<clock ticks since the boot>``; "-" when it cannot be told.
        host: node name.
        program: what it runs, for people.
    """

    __slots__ = ("_line", "host", "pid", "program", "started")

    def __init__(self, pid: int, started: str, host: str, program: str) -> None:
        self.pid = pid
        self.started = started
        self.host = host
        self.program = program
        self._line = ""

    def encode(self) -> str:
        """As one line; `Owner.decode` reads it."""
        if not self._line:
            self._line = f"{self.pid} {self.started or '-'} {self.host.replace(' ', '_') or '-'} {self.program}"
        return self._line

    @classmethod
    def decode(cls, line: str) -> Owner | None:
        """The owner that `line` tells of, or None when it is not such a line."""
        parts = line.split(" ", _FIELDS - 1)
        if len(parts) != _FIELDS or not (parts[0].isascii() and parts[0].isdigit()):
            return None
        return cls(int(parts[0]), parts[1], parts[2], parts[3])

    def alive(self) -> bool | None:
        """Whether the process still runs; None when that cannot be told from here.

        So of another host, of another namespace of process ids (a container's), and where it was not, or cannot now
        be, told when processes start.
        """
        if self.host != me().host or self.started in {"", _CANNOT_TELL}:
            return None
        if self.before_this_boot():
            return False
        if sys.platform == "linux" and not self.started.startswith(here() or " "):
            return None
        token = start_token(self.pid)
        return None if token == _CANNOT_TELL else token == self.started

    def before_this_boot(self) -> bool:
        """Whether this host was started again since the process was; False where that cannot be told."""
        boot, _, rest = self.started.partition(".")
        now = boot_id()[:BOOT_SHOWN]
        return bool(sys.platform == "linux" and self.host == me().host and boot and rest and now and boot != now)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Owner) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self.encode())

    def __str__(self) -> str:
        return f"{self.program} (pid {self.pid} on {self.host})"

    def __repr__(self) -> str:
        return f"Owner({self.encode()!r})"


_CANNOT_TELL: Final = "-"
_me: Owner | None = None


def me() -> Owner:
    """This process."""
    global _me  # noqa: PLW0603 - one cached value per process
    pid = posix.getpid()
    if _me is None or _me.pid != pid:
        host = posix.uname().nodename if hasattr(posix, "uname") else environ("COMPUTERNAME") or ""
        _me = Owner(pid, start_token(pid), host.replace(" ", "_") or "-", _program())
    return _me


def _program() -> str:
    argv = getattr(sys, "argv", None) or [""]
    directory, _, script = argv[0].rpartition(SEP)
    if script == "__main__.py":  # python -m PACKAGE
        script = directory.rpartition(SEP)[2]
    name = environ("LANDED_PROGRAM") or (f"python{sys.version_info[0]}" if script in {"", "-", "-c"} else script)
    return name.replace("\n", " ").encode("utf-8", "backslashreplace").decode()  # names of files need not be UTF-8


def start_token(pid: int) -> str:
    """When process `pid` started, as an opaque token; "" when there is no such process, "-" when it cannot be told."""
    if sys.platform == "linux":
        before = here()
        ticks = _start_ticks(pid) if before else None
        return _CANNOT_TELL if ticks is None else ticks and before + ticks
    return _start_token_elsewhere(pid)  # pragma: no cover - run on macOS and Windows only


def here() -> str:
    """What the start tokens of this boot and this namespace of process ids begin with; "" when that cannot be told."""
    boot = boot_id()[:BOOT_SHOWN]
    try:
        namespace = posix.stat("/proc/self/ns/pid").st_ino
        own = posix.readlink("/proc/self") == str(posix.getpid())  # else /proc shows the processes of another namespace
    except OSError:
        return ""
    return f"{boot}.{namespace}." if boot and own else ""


def _start_ticks(pid: int) -> str | None:
    """The clock ticks from the boot to the start of `pid`; "" when there is no such process, None when hidden."""
    try:
        fd = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return None if _answers(pid) else ""
    except OSError:
        return None
    try:
        text = posix.read(fd, 4096)
    except ProcessLookupError:
        return ""
    finally:
        posix.close(fd)
    # Field 22, counted after the program name, which is in parentheses and may hold anything.
    fields = text[text.rindex(b")") + 2 :].split()
    return "" if fields[0] == b"Z" else fields[19].decode()  # a zombie runs no more and holds nothing


def _answers(pid: int) -> bool:
    """Whether there is a process `pid`, also where /proc hides those of other users (its option hidepid)."""
    try:
        posix.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def locker(inode: int) -> Owner | None:
    """The process that holds a flock on the file of this inode number; None when the kernel names none, or several."""
    try:
        fd = posix.open("/proc/locks", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None
    with open(fd, "rb") as file:
        lines = [line.split() for line in file]
    ending = b":%d" % inode  # the numbers of devices differ from those of stat on some file systems
    pids = {int(line[4]) for line in lines if line[1] == b"FLOCK" and line[5].endswith(ending)}
    if len(pids) != 1:
        return None
    pid = pids.pop()
    return me() if pid == posix.getpid() else Owner(pid, start_token(pid), me().host, _program_of(pid))


def _program_of(pid: int) -> str:
    try:
        fd = posix.open(f"/proc/{pid}/cmdline", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return "a process"
    try:
        words = posix.read(fd, 4096).split(b"\0")
    finally:
        posix.close(fd)
    names = [word.rpartition(b"/")[2] for word in words[:2] if word and not word.startswith(b"-")]
    return names[-1].decode("utf-8", "backslashreplace").replace("\n", " ") if names else "a process"


def boot_id() -> str:
    """A token that is equal for equal boots of this machine's kernel; "" where the platform does not say."""
    global _boot_id  # noqa: PLW0603 - one cached value per process
    if _boot_id is None:
        _boot_id = _read_boot_id()
    return _boot_id


_boot_id: str | None = None


def _read_boot_id() -> str:
    if sys.platform == "linux":
        try:
            fd = posix.open("/proc/sys/kernel/random/boot_id", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return ""
        try:
            return posix.read(fd, 64).decode().strip()
        finally:
            posix.close(fd)
    if sys.platform == "darwin":  # pragma: no cover - run on macOS only
        return _command_output(["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"])
    return ""  # pragma: no cover - run on Windows only


def _start_token_elsewhere(pid: int) -> str:  # pragma: no cover - run on macOS and Windows only
    if sys.platform == "darwin":
        started = _command_output(["/bin/ps", "-o", "lstart=", "-p", str(pid)])
        return started.replace(" ", "_")
    return _CANNOT_TELL


def _command_output(command: list[str]) -> str:  # pragma: no cover - run on macOS only
    import subprocess

    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
