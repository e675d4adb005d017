"""Read, change and write under one lock: what `landed.edit` gives."""

from __future__ import annotations

from time import monotonic

from landed.artifact import Artifact, Locked
from landed.landing import make_durable, replace, settle
from landed.memory import check_arguments
from landed.publish import refuse_hard_link
from landed.records import SEEN
from landed.values import Draft, Receipt, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable

    from landed.files import Files
    from landed.values import Path


class Edit:
    """The context manager that `Files.edit` gives."""

    __slots__ = ("_actor", "_artifact", "_draft", "_files", "_locked", "_path", "_state", "_timeout", "_verify")

    def __init__(self, files: Files, path: Path, verify: str, timeout: float, actor: Hashable) -> None:
        self._files = files
        self._path = path
        self._verify = verify
        self._timeout = timeout
        self._actor = actor

    def __enter__(self) -> Draft:
        artifact = Artifact(self._path, self._files._fs)
        check_arguments(artifact.path, SEEN, self._verify)
        self._files.memory.refuse_doubted(artifact.path)
        locked = Locked(artifact, self._timeout, self._actor, make=True)
        try:
            directory = locked.__enter__()
            try:
                record, sight, settled = settle(self._files, artifact, directory)
                if sight is not None:
                    refuse_hard_link(artifact.path, sight.status)
                verdict = artifact.judge(record, sight)
                data = sight.data if sight is not None else b""
                draft = Draft(data, verdict.version, artifact.path, verdict.origin)
            except BaseException:
                locked.__exit__()
                raise
            # Now, and not before: whoever is in the block of this same edit still needs its own.
            self._artifact, self._locked, self._draft = artifact, locked, draft
            self._state = (directory, record, sight, verdict, settled, monotonic())
        except BaseException:
            artifact.shelf.lock.release()  # an interrupt may have struck just before `locked` would have done it
            raise
        return draft

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        artifact, locked = self._artifact, self._locked
        try:
            try:
                if kind is None:
                    self._write()
            finally:
                locked.__exit__()
        finally:
            artifact.shelf.lock.release()  # as on entry

    def _write(self) -> None:
        directory, record, sight, verdict, settled, started = self._state
        draft, artifact = self._draft, self._artifact
        content = to_bytes(draft.data, artifact.path)
        version = draft.version
        if sight is None or content != sight.data:
            if sight is None and not content:
                return
            make_durable(self._files, artifact, directory, self._locked.created)
            written = replace(self._files, artifact, directory, record, sight, verdict, content, self._verify)
            version = written.version
            draft.receipt = Receipt(
                artifact.path,
                version,
                written.digest,
                written.size,
                self._verify,
                monotonic() - started,
                draft.version,
                settled,
            )
            self._locked.landed = True
        self._files.memory.remember(artifact.path, version, self._actor)
