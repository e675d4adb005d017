"""Copying what still reads of a damaged journal into a new one, with the same sequence numbers.

The new journal is one segment that is full, as a compaction would have written it, and an empty one to append to. It is
made in a directory beside the one asked for and read back; its renaming is the last step, so that it is there whole or
not at all.
"""

from __future__ import annotations

import os

from landed import _fs
from landed.errors import NotLanded, OutcomeUnknown, Refused, from_os_error
from landed.local import segments, sizes
from landed.local.directory import NAME
from landed.local.frames import SEAL, Frame, Header
from landed.local.full import FullSegment
from landed.local.survey import Survey
from landed.local.walk import Damage, Moved, Tail, walk
from landed.lock import PRIVATE
from landed.publish import READ, temp_name, write_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

FULL: Final = (1, 1)
EMPTY: Final = (2, 2)
"""The segments of the new journal."""


class Skipped:
    """What a salvage could not copy.

    Attributes:
        damage: where.
        after: the last sequence number that was copied before it; 0 for none.
        before: the first one that was copied after it; None for none.
    """

    __slots__ = ("after", "before", "damage")

    def __init__(self, damage: Damage, after: int) -> None:
        self.damage = damage
        self.after = after
        self.before: int | None = None


class Salvaged:
    """What a salvage did.

    Attributes:
        path: the new journal.
        batches: how many were copied.
        tail: the last sequence number that was copied; 0 for none.
        base: the highest sequence number that may have been given out; the new journal goes on above it.
        skipped: the damage, in order.
        tails: what crashes left, which was never part of the journal and was not copied.
    """

    __slots__ = ("base", "batches", "path", "skipped", "tail", "tails")

    def __init__(self, path: str) -> None:
        self.path = path
        self.batches = 0
        self.tail = 0
        self.base = 0
        self.skipped: list[Skipped] = []
        self.tails: list[Tail] = []


def salvage(
    directory: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    level: str = READ,
    watch: Callable[[int, int], None] | None = None,
    fs: _fs.FileOps = _fs.LOCAL,
) -> Salvaged:
    """Copy every batch that still reads into a new journal. The damaged one is not touched.

    One of many (`landed.Journals`) keeps its name, so that it can take the damaged one's place.

    Args:
        directory: the damaged journal.
        output: the new one's directory; must not exist.
        level: ``"read"``, or ``"device"`` to read past the page cache.
        watch: told now and then how many bytes were copied, and of how many.
        fs: the file operations to use.

    Raises:
        Refused: there is no journal, or `output` exists or would lie inside it. Nothing was written.
        NotLanded: the new journal cannot be written, or the damaged one changed under the reader. No new one is left.
        OutcomeUnknown: the new one may not survive a crash.
        OSError: the damaged one cannot be read. No new one is left.
    """
    survey = Survey(os.fspath(directory), fs)
    target = _new_directory(survey, os.path.abspath(output), fs)
    done = Salvaged(target)
    writer = _Writer(target, fs)
    try:
        _copy(survey, writer, done, level, watch)
        writer.finish(done.base, _name(survey))
        _read_back(writer.path, done, fs)
        writer.rename()
    except BaseException as error:
        writer.discard()
        if isinstance(error, OutcomeUnknown):  # of a file that is gone again
            raise NotLanded(error.what, path=target, step=error.step, errno=error.errno) from error
        raise
    writer.sync()
    return done


def _new_directory(survey: Survey, target: str, fs: _fs.FileOps) -> str:
    source, real = os.path.realpath(survey.path), os.path.realpath(target)
    if real == source or real.startswith(source.rstrip(os.sep) + os.sep):
        raise Refused("the new journal would lie in the damaged one", path=target, step="argument")
    try:
        fs.stat(target, follow_symlinks=False)
    except OSError:
        return target  # whoever makes it is told why it cannot be made
    raise Refused("there is something already", path=target, step="argument", hint="Name a directory to be made.")


def _name(survey: Survey) -> bytes | None:
    """What says whose it is, if it is one of many; None where that is lost: who opens it by its name restores it."""
    fs = survey.fs
    try:
        fd = fs.open(os.path.join(survey.path, NAME), os.O_RDONLY | _fs.KEPT)
        try:
            return _fs.read_all(fs, fd, fs.fstat(fd).st_size)
        finally:
            _fs.close_read(fs, fd)
    except OSError:
        return None


def _read_back(path: str, done: Salvaged, fs: _fs.FileOps) -> None:
    batches, tail = 0, 0
    for _, event in walk(Survey(path, fs)):
        if isinstance(event, (Damage, Tail)):
            raise NotLanded(f"the copy reads back otherwise: {event}", path=path, step="verify")
        if isinstance(event, Frame):
            batches, tail = batches + 1, event.head.tail
    if (batches, tail) != (done.batches, done.tail):
        raise NotLanded("the copy reads back otherwise", path=path, step="verify")


def _copy(
    survey: Survey, writer: _Writer, done: Salvaged, level: str, watch: Callable[[int, int], None] | None
) -> None:
    total = survey.size()
    open_ended: list[Skipped] = []
    try:
        for file, event in walk(survey, level=level):
            if event is None and file is not None and file.header is not None:
                done.base = max(done.base, file.header.base)
            elif isinstance(event, Damage):
                open_ended.append(Skipped(event, done.tail))
                done.skipped.append(open_ended[-1])
            elif isinstance(event, Tail):
                done.tails.append(event)
                done.base = max(done.base, event.tail)
            elif isinstance(event, Frame) and event.head.type != SEAL:
                writer.add(event)
                for skipped in open_ended:
                    skipped.before = event.head.sequence
                open_ended = []
                done.batches += 1
                done.tail = event.head.tail
                if watch is not None:
                    watch(writer.size, total)
    except Moved:
        raise NotLanded(
            "it changed while it was read",
            path=survey.path,
            step="read",
            hint="Stop what writes to it, then try again.",
        ) from None
    done.base = max(done.base, done.tail)


class _Writer:
    """The new journal while it is written, in a directory with a temp name.

    Attributes:
        path: that directory.
    """

    def __init__(self, target: str, fs: _fs.FileOps) -> None:
        self._fs = fs
        self._target = target
        self.path = os.path.join(os.path.dirname(target), temp_name(os.urandom(6).hex()))
        try:
            fs.mkdir(self.path, 0o700)
            self._full = FullSegment(os.path.join(self.path, segments.name_of(FULL)), FULL, os.urandom(8), PRIVATE, fs)
        except OSError as error:
            raise self._failed(error) from error

    @property
    def size(self) -> int:
        """Bytes of the full segment."""
        return self._full.size

    def add(self, frame: Frame) -> None:
        try:
            self._full.add(frame.head, frame.payload)
        except OSError as error:
            raise self._failed(error) from error

    def finish(self, base: int, name: bytes | None) -> None:
        """The full segment, the name if there is one, and the empty segment, with which the entries are flushed."""
        try:
            self._full.finish()
            self._full.close()
            if name is not None:
                with _fs.Directory(self.path, self._fs) as directory:
                    write_new(directory, NAME, name, mode=PRIVATE, fs=self._fs)
        except OSError as error:
            raise self._failed(error) from error
        following = Header(sizes.REST_SIZE, *EMPTY, os.urandom(8), base, self._full.id, self.size)
        segments.create(self.path, following, PRIVATE, self._fs)

    def rename(self) -> None:
        """Give the directory its name."""
        try:
            self._fs.rename(self.path, self._target)
        except OSError as error:
            raise self._failed(error) from error

    def sync(self) -> None:
        """Flush that name."""
        try:
            with _fs.Directory(os.path.dirname(self._target), self._fs) as parent:
                parent.sync()
        except OSError as error:
            raise from_os_error(
                OutcomeUnknown, error, "the new name cannot be flushed", path=self._target, step="sync directory"
            ) from error

    def discard(self) -> None:
        """Remove what was made."""
        self._full.abandon()
        try:
            _fs.remove_directory(self._fs, self.path)
        except OSError as error:
            raise from_os_error(
                NotLanded, error, "what was begun cannot be removed", path=self.path, step="clean"
            ) from error

    def _failed(self, error: OSError) -> NotLanded:
        return from_os_error(NotLanded, error, "the new journal cannot be written", path=self._target, step="write")
