"""File systems on loop devices, in a mount namespace of our own: whatever dies, nothing of it stays mounted."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
MIB = 1 << 20
MOUNTPOINT = "mnt"
"""In the directory of a bench."""
GUARD = 60
"""Seconds after which something hangs."""

BOOT_ID = "/proc/sys/kernel/random/boot_id"
CLONE_NEWNS = 0x20000
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
LOOP_CTL_GET_FREE, LOOP_CONFIGURE = 0x4C82, 0x4C0A
LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO = 4, 16
LOOP_CONFIG = struct.Struct("<II 40x 12x I 240x")
"""struct loop_config: descriptor, block size, then loop_info64 of which only the flags are ours, then reserved."""


class Kind:
    """A kind of file system: how large the smallest is that it likes, how it is made and mounted."""

    def __init__(self, name: str, size: int, make: str, options: str = "") -> None:
        self.name = name
        self.size = size
        self.make = make.split()
        self.options = options


KINDS = {
    kind.name: kind
    for kind in (
        # Nothing is left for the kernel to initialise later, so that all writes are the workload's.
        Kind("ext4", 16 * MIB, "mkfs.ext4 -q -m 0 -N 512 -E lazy_itable_init=0,lazy_journal_init=0 -J size=4"),
        Kind("xfs", 300 * MIB, "mkfs.xfs -q -K", "nouuid"),
        Kind("btrfs", 128 * MIB, "mkfs.btrfs -q -K"),
    )
}

_libc = ctypes.CDLL(None, use_errno=True)


def _system(call: str, *arguments: object) -> None:
    if getattr(_libc, call)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


@cache
def why_not(kind: str = "ext4", *, device: bool = True) -> str:
    """Why the lab cannot run here, or without `device` why it cannot mount; "" when it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "mounting needs root on Linux"
    for path in ("/dev/fuse", "/dev/loop-control")[not device :]:
        if not os.path.exists(path):
            return f"needs {path}"
    try:
        if device:
            import mfusepy  # noqa: F401
    except (ImportError, OSError) as error:
        return f"needs mfusepy and libfuse: {error}"
    command = KINDS[kind].make[0]
    if shutil.which(command) is None:
        return f"needs {command}"
    probe = f"import sys; sys.path.insert(0, {str(HERE.parent)!r}); from lab import disk; disk.probe({kind!r})"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=GUARD, check=False)
    return "" if done.returncode == 0 else f"cannot mount {kind} here: {done.stderr.strip()[-200:]}"


def probe(kind: str) -> None:
    """Make and mount one, in a process of its own."""
    own_namespace()
    with scratch() as directory, Bench(directory, KINDS[kind]) as bench:
        bench.format()
        bench.mount(bench.image)


def own_namespace() -> None:
    """From here on, what this process mounts is seen by it and its children alone, and ends with them."""
    _system("unshare", CLONE_NEWNS)
    _system("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)


@contextmanager
def scratch(above: str | None = None) -> Iterator[Path]:
    """A directory in memory, or in the directory `above`."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix="landed-lab-", dir=above or memory))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Bench:
    """A mountpoint, an image, and what is between them. Needs `own_namespace`.

    Attributes:
        image: the bytes of the file system.
        mountpoint: where it is mounted, whatever it stands on: landed keys records by path.
        log: what the recording device notes.
    """

    def __init__(self, directory: Path, kind: Kind) -> None:
        self.kind = kind
        self.image = directory / "image"
        self.mountpoint = directory / MOUNTPOINT
        self.log = directory / "log"
        self._fuse = directory / "fuse"
        self._boot = directory / "boot"
        self._device: subprocess.Popen[bytes] | None = None
        self.mountpoint.mkdir(exist_ok=True)
        self._fuse.mkdir(exist_ok=True)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.unmount()
        self.stop_device()

    def format(self, *, filled: bool = False) -> None:
        """Make the file system; `filled`: in a file that has all its blocks already, as a disk has them."""
        with self.image.open("wb", buffering=0) as file:
            file.truncate(self.kind.size)
            for _ in range(self.kind.size // MIB if filled else 0):
                file.write(bytes(MIB))
        command = [*self.kind.make, str(self.image)]
        subprocess.run(command, check=True, capture_output=True, timeout=GUARD)

    def start_device(self, *, log: bool = True) -> None:
        """Serve the image by `lab.device`, which keeps a log or does not. Before `mount`."""
        self.log.unlink(missing_ok=True)
        noted = str(self.log) if log else os.devnull
        command = [sys.executable, "-m", "lab.device", str(self._fuse), str(self.image), noted]
        self._device = subprocess.Popen(command, cwd=HERE.parent)
        until = time.monotonic() + GUARD
        while not (self._fuse / "disk").exists():
            assert self._device.poll() is None, "the device did not start"
            assert time.monotonic() < until, "the device does not answer"
            time.sleep(0.01)
        # What stands on the device is mounted where the device is not. When all are killed, the last one in a namespace
        # unmounts what is mounted there, and only then lets go of its files: a device would wait for its own answer.
        own_namespace()

    def stop_device(self) -> None:
        if self._device is not None:
            _libc.umount2(bytes(self._fuse), MNT_DETACH)
            self._device.kill()  # it owes nothing: a request is answered when it is done
            self._device.wait(GUARD)
            self._device = None

    @property
    def disk(self) -> Path:
        return self._fuse / "disk"

    @property
    def marks(self) -> Path:
        return self._fuse / "marks"

    def order(self, **orders: object) -> None:
        """Make the device misbehave; without arguments, behave."""
        fd = os.open(self._fuse / "orders", os.O_WRONLY)
        os.write(fd, json.dumps(orders).encode())
        os.close(fd)

    def failures(self) -> int:
        """How many requests the device has failed since the last order."""
        fd = os.open(self._fuse / "orders", os.O_RDONLY)
        try:
            return int(os.pread(fd, 20, 0))
        finally:
            os.close(fd)

    def mount(self, file: Path, flags: int = 0) -> None:
        """Mount the file system in `file`, by a loop device with these flags.

        Raises:
            OSError: the kernel refuses it.
        """
        kind, options = self.kind.name.encode(), self.kind.options.encode() or None
        with _loop(file, flags) as device:
            _system("mount", device.encode(), bytes(self.mountpoint), kind, 0, options)

    def abort(self) -> None:
        """Let the kernel behave as if it had found the file system (ext4) damaged: it is read-only from now on."""
        _system("mount", None, bytes(self.mountpoint), None, MS_REMOUNT, b"abort")

    def unmount(self) -> None:
        for _ in range(200):
            if _libc.umount2(bytes(self.mountpoint), 0) == 0 or ctypes.get_errno() == errno.EINVAL:
                return
            time.sleep(0.01)
        _libc.umount2(bytes(self.mountpoint), MNT_DETACH)

    def reboot(self) -> None:
        """Let this namespace believe that the machine was started again."""
        if not self._boot.exists():
            self._boot.touch()
            _system("mount", bytes(self._boot), BOOT_ID.encode(), None, MS_BIND, None)
        self._boot.write_text(f"{uuid.uuid4()}\n")


@contextmanager
def _loop(file: Path, flags: int) -> Iterator[str]:
    """A loop device on `file` that goes when it is no longer mounted."""
    backing = os.open(file, os.O_RDWR)
    control = os.open("/dev/loop-control", os.O_RDWR)
    loop = -1
    try:
        for _ in range(200):
            device = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
            try:
                loop = os.open(device, os.O_RDWR)
                fcntl.ioctl(loop, LOOP_CONFIGURE, LOOP_CONFIG.pack(backing, 0, LO_FLAGS_AUTOCLEAR | flags))
                break
            except OSError as error:  # somebody else was first
                if loop >= 0:
                    os.close(loop)
                    loop = -1
                if error.errno not in {errno.EBUSY, errno.ENOENT, errno.EINTR}:
                    raise
                time.sleep(0.01)
        assert loop >= 0, "no free loop device"
        yield device
    finally:
        for fd in (loop, control, backing):
            if fd >= 0:
                os.close(fd)
