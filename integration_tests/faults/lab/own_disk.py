"""A file system of its own for any program, on a disk as others have it: with a journal, and with slower flushes.

    python -m lab.own_disk --fs ext4 --flush-ms 1 fio --directory={} ...

`{}` in the command stands for a directory on it. With ``--flush-ms`` the disk is in memory, and a flush takes so long
and as long as the lab's device needs; without, it is a file in the directory ``--on``, and a flush is one of the disk
under that. Mounted in a namespace of its own: nobody else sees it, and it goes when the command has ended. The exit
code is that of the command, 128 and the signal's number if one ended it, or 69 when there can be no such disk here.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# As a system makes them. Only is nothing left for the kernel to initialise later, and what is there already is kept.
MAKE = {
    "ext4": "mkfs.ext4 -q -E nodiscard,lazy_itable_init=0,lazy_journal_init=0",
    "xfs": "mkfs.xfs -q -K",
    "btrfs": "mkfs.btrfs -q -K",
}
SIZE = 2048
"""MiB: xfs wants 300, and a journal of ext4 is as large as on large disks from 2048 on."""
UNAVAILABLE = 69
"""EX_UNAVAILABLE of sysexits.h."""


@contextmanager
def own_disk(kind: str = "ext4", flush_ms: float = 0, size: int = SIZE, on: str = ".") -> Iterator[Path]:
    """A directory on a file system of its own; from here on this process is in a mount namespace of its own.

    Args:
        kind: ext4, xfs or btrfs.
        flush_ms: what a flush takes; 0 for the disk under `on` as it is.
        size: MiB.
        on: where the file with its bytes lies, unless a flush takes longer: then that is in memory.
    """
    disk.own_namespace()
    shape = disk.Kind(kind, size * disk.MIB, MAKE[kind], disk.KINDS[kind].options)
    with disk.scratch(None if flush_ms else on) as directory, disk.Bench(directory, shape) as bench:
        if flush_ms:
            bench.format()
            bench.start_device(log=False)
            bench.mount(bench.disk)
            bench.order(flush_ms=flush_ms)
        else:
            bench.format(filled=True)
            bench.mount(bench.image, disk.LO_FLAGS_DIRECT_IO)
        bench.image.unlink()  # it ends with who has it open, whatever dies
        yield bench.mountpoint


def why_not(kind: str, flush_ms: float) -> str:
    """Why there can be no such disk here; "" when there can."""
    return disk.why_not(kind, device=flush_ms > 0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.own_disk", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fs", choices=[*MAKE], default="ext4")
    parser.add_argument(
        "--flush-ms", type=float, default=0, metavar="MS", help="what a flush takes (default: what it does)"
    )
    parser.add_argument("--size", type=int, default=SIZE, metavar="MIB", help=f"of the disk (default: {SIZE})")
    parser.add_argument("--on", default=".", metavar="DIR", help="without --flush-ms: whose disk it stands on")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="{} stands for the directory")
    options = parser.parse_args()
    if not options.command:
        parser.error("a command is needed")
    if missing := why_not(options.fs, options.flush_ms):
        print(f"there can be no disk of its own here: {missing}", file=sys.stderr)
        return UNAVAILABLE
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # and the disk goes first
    with own_disk(options.fs, options.flush_ms, options.size, options.on) as directory:
        command = [word.replace("{}", str(directory)) for word in options.command]
        code = subprocess.run(command, check=False).returncode
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
