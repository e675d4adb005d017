"""The program that Claude Code starts for each event: one JSON object in, one out.

It is started as ``python -I -S -X utf8 -c LAUNCHER DIRECTORY``, and imports next to nothing: a session waits for it at
every tool call. Whatever goes wrong before a tool runs denies the tool and says why; after it, it is told. What cannot
say anything (a kill, a timeout) is Claude Code's to judge: see ``onFailure`` in docs/reference/claude-code-hook.md.
"""

from __future__ import annotations

import marshal
import posix  # and not os, which takes a millisecond or two to load
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Any, Final

    from landed_claude_code.ledger import Ledger

LAUNCHER: Final = (
    "import gc, sys\n"
    "gc.disable()\n"
    "sys.path += sys.argv[1:]\n"
    "try:\n"
    "    from landed_claude_code.hook import main\n"
    "    main()\n"
    "except (ImportError, FileNotFoundError) as error:\n"
    "    import json\n"
    "    print(json.dumps({'systemMessage': f'landed-hook is not in {sys.argv[1:]} any more ({error}): writes are not "
    "guarded. Install it again, or remove its hooks from the settings.'}))\n"
    "except SyntaxError as error:\n"
    "    sys.exit('landed-hook needs Python 3.10 or newer, not ' + sys.version[:6] + ': ' + str(error))\n"
)
"""What the settings hold. A package that is gone must neither lock every write out nor vanish silently.
Python 3.7 can read this, but not the package. A process that lives for a hundredth of a second collects no garbage."""
OLDEST: Final = (3, 10)
"""Of Python. An older one may get as far as saying so."""
PIPE: Final = 1 << 16
"""Bytes that a pipe holds."""
WIDE: Final = 1 << 20
"""Bytes that it can be made to hold."""
BUNDLE_HEAD: Final = 8
"""Bytes of it that tell whose bytecode it is, and where that begins."""
KEPT_MEMORY: Final = 16 << 20
"""Bytes of memory that are used again rather than given back; glibc knows no more than 32 MiB."""


def main() -> None:
    """Read the event from standard input, answer it on standard output, and end the process."""
    event: dict[str, Any] = {}
    begun = b""
    sys.argv[0] = "landed-hook"  # what records call this program
    posix.putenv("OPENSSL_CONF", "")  # a digest needs no settings: reading them takes a seventh of loading OpenSSL
    bytes(KEPT_MEMORY)  # given back at once, untouched: glibc then keeps that much rather than ask for fresh pages
    _use_bundle()
    try:
        from landed_claude_code import wire

        begun = posix.read(0, PIPE)
        event = wire.decode(_input(begun))
        output = _answered(event)
    except Exception as error:  # noqa: BLE001 - whatever it is, the tool must not run unguarded, nor without a reason
        output = _failed(event or _called(begun), error)
    _print(output)
    posix._exit(0)  # nothing is left to flush, and tearing the interpreter down takes a tenth of the whole


def _answered(event: dict[str, Any]) -> dict[str, object]:
    from landed_claude_code.adapter import PASS, START, call_of, output_of

    call = call_of(event)
    if call.phase == PASS:
        return {}
    ledger, notice = open_ledger(call.agent)
    if call.phase == START:
        _sweep(ledger)
    from landed_claude_code.guard import answer as decide

    answer = decide(call, ledger)
    answer.notice = answer.notice or notice
    return output_of(event["hook_event_name"], answer)


def _sweep(ledger: Ledger) -> None:
    from landed_claude_code.garbage import sweep

    sweep(ledger.path.rsplit("/", 2)[0])
    try:
        from landed_claude_code.bundle import keep

        keep()
    except OSError:
        return  # a place that is not to be written


def open_ledger(agent: Any) -> tuple[Ledger, str]:  # noqa: ANN401 - imported late
    """The agent's ledger, and what the person should know about where it is.

    Raises:
        OSError: there is no place for it at all.
    """
    from landed._fs import environ
    from landed.process import Owner, me, start_token
    from landed_claude_code.ledger import Ledger, agents_directory

    pid = environ("CLAUDE_PID") or ""
    number = int(pid) if pid.isdigit() else posix.getppid()
    owner = Owner(number, start_token(number), me().host, str(agent))
    directory, notice = agents_directory(), ""
    try:
        _make(directory)
    except OSError as error:
        directory, notice = _elsewhere(directory, error)
    return Ledger(agent, owner, directory), notice


def _make(directory: str) -> None:
    if posix.access(directory, posix.W_OK):
        return
    import os

    os.makedirs(directory, 0o700, exist_ok=True)
    if not os.access(directory, os.W_OK):
        raise PermissionError(13, "the directory cannot be written", directory)


def _elsewhere(directory: str, why: OSError) -> tuple[str, str]:
    """A read-only home: a directory of this user's among the temporary files. Said once, when it is made."""
    import os

    root = f"{os.environ.get('TMPDIR') or '/tmp'}/landed-{os.geteuid()}"  # noqa: S108 - checked below
    made = False
    try:
        os.mkdir(root, 0o700)
        made = True
    except FileExistsError:
        status = os.lstat(root)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077 or os.path.islink(root):
            raise PermissionError(13, "it belongs to somebody else", root) from why
    os.environ["LANDED_STATE_DIR"] = root
    again = os.path.join(root, "agents")
    os.makedirs(again, 0o700, exist_ok=True)
    notice = (
        f"landed-hook cannot write {directory} ({why.strerror}) and keeps its records in {root}. Programs that use "
        "landed meet it only with LANDED_STATE_DIR set to that."
    )
    return again, notice if made else ""


def _called(begun: bytes) -> dict[str, Any]:
    """What an event that cannot be read says at its beginning: a write that comes after it must not pass for that."""
    from landed_claude_code.adapter import WRITERS

    names = [name for name in WRITERS if b'"PreToolUse","tool_name":"%b"' % name.encode() in begun]
    return {"hook_event_name": "PreToolUse", "tool_name": names[0]} if names else {}


def _failed(event: dict[str, Any], error: Exception) -> dict[str, object]:
    """Before a write, no; else, say so.

    Raises:
        ImportError: landed, or this package, is not there any more, and so is what the next step would be.
    """
    from landed_claude_code.adapter import WRITERS, Answer, output_of

    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "landed":
        raise error
    name = event.get("hook_event_name")
    what = f"landed-hook failed: {type(error).__name__}: {error}."
    if sys.version_info < OLDEST:
        what += f" It needs Python 3.10 or newer, and {sys.executable} is {sys.version.split()[0]}."
    # A model is not to take its own guard out.
    next_step = "`landed-hook doctor` looks for the cause; what becomes of the hook is the user's to decide."
    if name == "PreToolUse" and event.get("tool_name") in WRITERS:
        return output_of("PreToolUse", Answer(deny=f"Nothing was written. {what} {next_step}"))
    return {"systemMessage": f"{what} What this event was about was not checked. {next_step}"}


class Bundle:
    """Finds modules in the file that `bundle` makes.

    Args:
        sources: of each module, the path, the time in nanoseconds and the size.
        codes: of each module that is no shared library.
    """

    def __init__(self, sources: dict[str, tuple[str, int, int]], codes: dict[str, CodeType]) -> None:
        self._sources = sources
        self._codes = codes

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """As Python's import asks each of `sys.meta_path`."""
        if name not in self._sources:
            return None
        path = self._sources[name][0]
        loader: Any = self if name in self._codes else _importlib().ExtensionFileLoader(name, path)
        spec: ModuleSpec = type(__spec__)(name, loader, origin=path)  # ModuleSpec, without an import
        directory, _, last = path.rpartition("/")
        if last == "__init__.py":
            spec.submodule_search_locations = [directory]
        return spec

    def create_module(self, _spec: ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        exec(self._codes[module.__name__], module.__dict__)  # noqa: S102 - it is the module


def _use_bundle() -> None:
    """Import from the file that `bundle` made, if it is of this Python and what the sources are now."""
    try:
        fd = posix.open(bundle_path(), posix.O_RDONLY | posix.O_CLOEXEC)
        text = memoryview(posix.read(fd, posix.fstat(fd).st_size))
        posix.close(fd)
        magic = bundle_magic()
        if text[: len(magic)] != magic:
            return
        begin = int.from_bytes(text[len(magic) : BUNDLE_HEAD], "little")
        paths, sources = marshal.loads(text[BUNDLE_HEAD:begin])  # noqa: S302 - as Python reads its own
        for path, time, size in sources.values():
            status = posix.stat(path)
            if status.st_mtime_ns != time or status.st_size != size:
                return
        if paths == sys.path:
            sys.meta_path.insert(0, Bundle(sources, marshal.loads(text[begin:])))  # noqa: S302 - likewise
    except Exception:  # noqa: BLE001 - there is none, or it is damaged: the modules themselves are there
        return


def bundle_path() -> str:
    """Where it is."""
    return f"{__file__.rpartition('/')[0]}/__pycache__/hook.{sys.implementation.cache_tag}.bundle"


def bundle_magic() -> bytes:
    """What it begins with: Python's own word for its bytecode."""
    return _importlib().MAGIC_NUMBER  # type: ignore[no-any-return]


def _importlib() -> Any:  # noqa: ANN401 - a module
    return sys.modules["_frozen_importlib_external"]


def _input(part: bytes) -> Iterator[bytes]:
    """Standard input, a pipe's fill at a time, from the one that was read first."""
    if len(part) == PIPE:
        _widen()
        from landed_claude_code import expected, guard  # noqa: F401 - while it fills
    while part:
        yield part
        part = _filled()


def _widen() -> None:
    """Let more come than a pipe holds by itself: who writes need not wait for us, nor we for each page."""
    import fcntl

    try:
        fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, WIDE)
    except (OSError, AttributeError):
        return  # it is no pipe, or this is not Linux


def _filled() -> bytes:
    """What comes next: who writes a page at a time is not to make us look at each."""
    parts, size = [], 0
    while size < PIPE and (part := posix.read(0, PIPE - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _print(output: dict[str, object]) -> None:
    from landed_claude_code import wire

    left = memoryview(wire.encode(output))
    while left:
        left = left[posix.write(1, left) :]


if __name__ == "__main__":
    sys.path.append(__file__.rsplit("/", 2)[0])
    main()
