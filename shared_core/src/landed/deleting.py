"""Deletes of whole files of this machine: what `landed.landing` does for a write, without the bytes."""

from __future__ import annotations

from time import monotonic

from landed.artifact import Artifact, Locked
from landed.errors import NotLanded, OutcomeUnknown, VerifyFailed, from_os_error
from landed.landing import begin, check, land, settle, still_the_same
from landed.memory import check_arguments
from landed.publish import READ, failed_step
from landed.records import ABSENT
from landed.values import Receipt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

    from landed import _fs
    from landed.files import Files
    from landed.values import Expect, Path


def delete(files: Files, path: Path, expect: Expect, timeout: float, actor: Hashable) -> Receipt:
    """As `landed.delete`."""
    started = monotonic()
    artifact = Artifact(path, files._fs)
    check_arguments(artifact.path, expect, READ)
    files.memory.refuse_doubted(artifact.path)
    with artifact, Locked(artifact, timeout, actor) as directory:
        record, sight, settled = settle(files, artifact, directory)
        verdict = artifact.judge(record, sight)
        check(files, artifact, record, verdict, expect, actor)
        if sight is None:
            raise FileNotFoundError(2, "No such file", artifact.path)
        # Once the file is gone, only the record can say that it was deleted and not lost: it is flushed.
        write = begin(artifact, record, "", 0, verdict, flush=True)

        def put() -> None:
            still_the_same(artifact, directory, sight)
            remove(directory, artifact.name, files._fs)

        land(files, artifact, record, write, put, flush=True)
        files.memory.remember(artifact.path, ABSENT, actor)
    return Receipt(artifact.path, ABSENT, "", 0, READ, monotonic() - started, verdict.version, settled)


def remove(directory: _fs.Directory, name: str, fs: _fs.FileOps) -> None:
    """Unlink `name`, flush the directory, and show that the name leads nowhere. The caller holds the path's lock.

    Raises:
        NotLanded: the file is still there.
        OutcomeUnknown: it was unlinked, the flush failed.
        VerifyFailed: another file has the name.
    """
    path = directory.join(name)
    try:
        directory.unlink(name)
    except OSError as error:
        try:
            directory.lstat(name)
        except OSError:
            raise failed_step(OutcomeUnknown, error, path, "unlink") from error
        raise failed_step(NotLanded, error, path, "unlink") from error
    try:
        directory.sync()
    except OSError as error:
        raise failed_step(OutcomeUnknown, error, path, "sync directory") from error
    try:
        fs.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(OutcomeUnknown, error, "the name cannot be looked up", path=path, step="verify") from error
    what = "another file took the name after the delete"
    raise VerifyFailed(what, path=path, step="verify", hint="Read it again, and find out what else writes there.")
