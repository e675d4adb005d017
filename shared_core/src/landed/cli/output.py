"""What the command prints: sentences and tables for people, one JSON document for machines, exit codes for scripts."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from datetime import datetime, timezone
from time import monotonic

from landed.errors import Corrupt, LandedError, OutcomeUnknown, Refused
from landed.lock import DEFAULT_TIMEOUT
from landed.publish import LEVELS, READ
from landed.records import Absent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Final, TextIO, TypeVar

    from landed.holder import Holder
    from landed.process import Owner
    from landed.records import Write
    from landed.values import Receipt

    T = TypeVar("T")

OK: Final = 0
"""Exit code: done, and all is well."""
BAD_NEWS: Final = 1
"""Exit code: nothing was written, or something was lost, bypassed or left unfinished."""
USAGE: Final = 2
"""Exit code: the command line cannot be understood, or a file named on it cannot be read. argparse's own."""
CANNOT_TELL: Final = 3
"""Exit code: the outcome is unknown."""
INTERRUPTED: Final = 130
"""Exit code: Ctrl-C, as shells count it."""
BROKEN_PIPE: Final = 141
"""Exit code: nobody reads the output any more, as shells count it."""

WIDTH: Final = 100
"""Columns of the help, whatever the terminal: the reference shows the same."""
BAR: Final = 30
"""Columns of the progress bar."""
BAR_EVERY: Final = 0.1
"""Seconds between two states of the bar on a terminal."""
LINE_EVERY: Final = 5.0
"""Seconds between two lines of progress where there is no terminal."""

MIB: Final = "MiB"
"""Unit of a `Meter` that is told bytes."""

COLOURS: Final = {"good": "32", "bad": "31;1", "doubt": "33", "dim": "2"}


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help as it was written, at one width."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=WIDTH)


def add_command(
    subparsers: Any,  # noqa: ANN401 - argparse does not name its type
    name: str,
    summary: str,
    description: str,
) -> argparse.ArgumentParser:
    """A parser for one command, with what all commands have."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=summary, description=description, formatter_class=Formatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def add_level(parser: argparse.ArgumentParser) -> None:
    """The option that says how bytes are proved."""
    parser.add_argument("--level", choices=LEVELS, default=READ, help="`device` reads past the page cache")


def add_timeout(parser: argparse.ArgumentParser, what: str) -> None:
    """The option that says how long; `what` says what for."""
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=DEFAULT_TIMEOUT,
        help=f"{what} (default {DEFAULT_TIMEOUT:g})",
    )


def seconds(text: str) -> float:
    """A number of seconds, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def number(text: str) -> int:
    """A number from 0 on, for argparse."""
    return _from(0, text)


def positive(text: str) -> int:
    """A number from 1 on, for argparse."""
    return _from(1, text)


def _from(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is less than {least}")
    return value


# For machines.


def emit(document: dict[str, Any]) -> None:
    """Print the one JSON document of this run."""
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")


def stamp(at: float) -> str:
    """A time as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def owner_document(owner: Owner) -> dict[str, Any]:
    """A process, for JSON."""
    return {"program": owner.program, "pid": owner.pid, "host": owner.host, "alive": owner.alive()}


def write_document(write: Write | None) -> dict[str, Any] | None:
    """One write, for JSON."""
    if write is None:
        return None
    return {
        "version": write.version,
        "sha256": write.digest or None,
        "size": write.size,
        "base": write.base or None,
        "at": stamp(write.at),
        "owner": owner_document(write.owner),
    }


def holder_document(holder: Holder | None) -> dict[str, Any] | None:
    """Who holds a lock, for JSON."""
    if holder is None:
        return None
    since = None if holder.since is None else stamp(holder.since)
    return {"since": since, "owner": owner_document(holder.owner)}


def receipt_document(receipt: Receipt) -> dict[str, Any]:
    """A receipt, for JSON."""
    return {
        "path": receipt.path,
        "version": version_text(receipt.version),
        "sha256": receipt.digest or None,
        "size": receipt.size,
        "verified": receipt.verified,
        "seconds": round(receipt.seconds, 6),
        "replaced": version_text(receipt.replaced),
        "settled": receipt.settled or None,
    }


def version_text(version: str | Absent) -> str | None:
    """A version, for JSON: null stands for no file."""
    return None if isinstance(version, Absent) else version


def error_document(error: LandedError) -> dict[str, Any]:
    """An error, for JSON."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "path": error.path,
        "step": error.step,
        "errno": error.errno,
        "expected": error.expected,
        "found": error.found,
        "outcome": error.outcome,
        "hint": error.hint or None,
    }


# For people.


def survive_any_stream() -> None:
    """Let nothing about where we print end the program.

    A stream that the caller has closed leads nowhere, and no file that is opened later gets its number. A path that the
    terminal's encoding cannot show is printed as escapes.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
            continue
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def shown(text: str) -> str:
    """A path, or other text from outside, on one line: control characters, which could fool a terminal, as escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour of `COLOURS`, where the stream is a terminal and NO_COLOR is not set."""
    out: TextIO = stream or sys.stdout
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not out.isatty():
        return text
    return f"\033[{COLOURS[colour]}m{text}\033[0m"


def count(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    """Print columns, each as wide as its widest cell; the last is not padded."""
    every = [header, *rows]
    widths = [max(len(row[column]) for row in every) for column in range(len(header))]
    for number, row in enumerate(every):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(padded).rstrip()
        print(coloured(line, "dim") if number == 0 else line)


def note(text: str) -> None:
    """Say something beside the result, on standard error."""
    print(f"{_program}: {shown(text)}", file=sys.stderr)


def complain(error: LandedError) -> None:
    """Say on standard error what landed raised."""
    print(f"{coloured(f'{_program}:', 'bad', sys.stderr)} {shown(str(error))}", file=sys.stderr)


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, with their progress on standard error."""
    with Meter(what) as meter:
        for done, item in enumerate(items):
            meter.at(done, len(items))
            yield item


class Meter:
    """Progress on standard error: a bar on a terminal, now and then a line elsewhere.

    Args:
        what: is going on, in a word.
        unit: bytes are shown as ``"MiB"``; "" for things that are counted.
    """

    def __init__(self, what: str, unit: str = "") -> None:
        self._what = what
        self._unit = unit
        self._bar = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._said = self._started = monotonic()
        self._drawn = False

    def at(self, done: int, total: int) -> None:
        """Say how far it is, if that is due."""
        now = monotonic()
        if now - self._said < (BAR_EVERY if self._bar else LINE_EVERY):
            return
        self._said, self._drawn = now, self._bar
        left = f", {(now - self._started) / done * (total - done):.0f} s left" if done else ""
        much = f"{self._amount(done)} of {self._amount(total)}{self._unit and ' '}{self._unit}"
        if self._bar:
            filled = BAR * done // max(1, total)
            line = f"{self._what} [{'#' * filled}{'.' * (BAR - filled)}] {much}{left}"
            sys.stderr.write(f"\r\033[K{line[: _columns() - 1]}")  # what is wrapped is not wiped
        else:
            sys.stderr.write(f"{self._what}: {much}{left}\n")
        sys.stderr.flush()

    def _amount(self, number: int) -> str:
        return f"{number / (1 << 20):.1f}" if self._unit == MIB else str(number)

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def _columns() -> int:
    """How wide the terminal on standard error is."""
    try:
        return os.get_terminal_size(2).columns or WIDTH  # one that does not know says 0
    except OSError:
        return WIDTH


# Failures.


_program = "landed"
"""The name that it was called by."""


def run(program: str, args: argparse.Namespace, missing: int) -> int:
    """Run the command that was parsed, and say on standard error what went wrong.

    Args:
        program: the name that it was called by.
        args: what was parsed; its ``run`` does it.
        missing: the exit code where a file that is needed is not there.

    Returns:
        The exit code.
    """
    global _program  # noqa: PLW0603 - a process is one program
    _program = program
    try:
        code = _run(args, missing)
        sys.stdout.flush()
    except OSError as error:
        # What is left of the output cannot be written. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # nobody reads it any more
            return BROKEN_PIPE
        note(f"the output cannot be written: {error.strerror}")
        return CANNOT_TELL
    except KeyboardInterrupt:
        note("interrupted")
        return INTERRUPTED
    return code


def _run(args: argparse.Namespace, missing: int) -> int:
    try:
        code: int = args.run(args)
    except LandedError as error:
        return fail(args, error)
    except BrokenPipeError:
        raise
    except FileNotFoundError as error:
        if error.filename is None:  # os.getcwd alone names no file
            gone = FileNotFoundError(error.errno, "the working directory is gone; go to one that is there")
            return fail_plainly(args, gone, CANNOT_TELL)
        return fail_plainly(args, error, missing)
    except OSError as error:
        return fail_plainly(args, error, CANNOT_TELL)
    return code


def fail(args: argparse.Namespace, error: LandedError, next_step: str = "") -> int:
    """Say what landed raised, and return the exit code for it."""
    code = exit_code(error, looks=getattr(args, "looks", False))
    if getattr(args, "json", False):
        emit({"error": error_document(error)})
    complain(error)
    if next_step:
        note(next_step)
    return code


def exit_code(error: LandedError, *, looks: bool) -> int:
    """`BAD_NEWS` where the error says what state things are in, `CANNOT_TELL` where it says that this is unknown.

    Args:
        error: what was raised.
        looks: whether the command only looks. That nothing was written is no news then: it could not look. That it
            cannot be there, as a file has the name of its directory, is.
    """
    if isinstance(error, (OutcomeUnknown, Corrupt)):
        return CANNOT_TELL
    looked = isinstance(error, Refused) or error.errno == errno.ENOTDIR
    return CANNOT_TELL if looks and not looked else BAD_NEWS


def fail_plainly(args: argparse.Namespace, error: OSError, code: int) -> int:
    """Say what the system raised, and return `code`."""
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    message = f"{where}{error.strerror or error}"
    if getattr(args, "json", False):
        path = os.fsdecode(error.filename) if error.filename else None
        emit({"error": {"type": type(error).__name__, "message": message, "path": path, "errno": error.errno}})
    note(message)
    return code
