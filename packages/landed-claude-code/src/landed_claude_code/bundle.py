"""The bytecode of all modules that a call needs, in one file, which loads faster than two dozen.

It lies beside Python's own, in ``__pycache__``, and counts as long as those would: while each source has the size and
the time that it had. Where it is missing, does not count, or cannot be written, the modules are imported one by one.
`hook` reads it; a session that starts and finds none that counts makes one.
"""

from __future__ import annotations

import marshal
import os
import sys

from landed_claude_code.hook import BUNDLE_HEAD, Bundle, bundle_magic, bundle_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

HERE: Final = "landed_claude_code"
MODULES: Final = (
    *(f"{HERE}.{name}" for name in ("adapter", "expected", "guard", "ledger", "long_strings", "wire", "words")),
    *("_hashlib", "_json", "_sha2", "_sha256", "fcntl", "zlib"),
)
"""What the calls of a session import; of the first, all that they import of landed as well."""
OTHERS: Final = {HERE, f"{HERE}.hook", f"{HERE}.bundle", f"{HERE}.garbage"}
"""What is there before the file is read, and what only the start of a session needs."""


def keep() -> None:
    """Make the file, if this process found none that counts.

    Raises:
        OSError: it cannot be written.
    """
    if any(isinstance(finder, Bundle) for finder in sys.meta_path):
        return
    for name in MODULES:
        try:
            __import__(name)
        except ImportError:
            continue  # this Python does not have it, or has another
    names = [name for name in sys.modules if name in MODULES or name.partition(".")[0] in {"landed", HERE}]
    sources, codes = {}, {}
    for name in set(names) - OTHERS:
        path = getattr(sys.modules[name], "__file__", None)
        if path is None:
            continue  # a part of the interpreter
        status = os.stat(path)  # before it is read: a change from now on makes another time
        sources[name] = (path, status.st_mtime_ns, status.st_size)
        if path.endswith(".py"):
            with open(path, "rb") as file:
                codes[name] = compile(file.read(), path, "exec", dont_inherit=True, optimize=2)
    _write(marshal.dumps((sys.path, sources)), marshal.dumps(codes))


def _write(head: bytes, codes: bytes) -> None:
    magic = bundle_magic()
    path = bundle_path()
    temp = f"{path}.{os.getpid()}"
    try:
        with open(temp, "wb") as file:
            file.write(magic + (BUNDLE_HEAD + len(head)).to_bytes(BUNDLE_HEAD - len(magic), "little") + head + codes)
        os.replace(temp, path)
    except OSError:
        if os.path.exists(temp):
            os.unlink(temp)
        raise
