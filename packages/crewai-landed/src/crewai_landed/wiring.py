"""Make CrewAI use landed everywhere in this process."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from crewai.flow.persistence.factory import set_flow_persistence_factory
from crewai.memory.storage.factory import set_memory_storage_factory
from crewai_core.lock_store import set_lock_backend

from crewai_landed.flows import LandedFlowPersistence
from crewai_landed.locks import Locks
from crewai_landed.storage import LandedStorage
from landed.engines import absolute

if TYPE_CHECKING:
    import os
    from typing import Final

DEFAULT: Final = "lancedb"
"""What CrewAI asks for where nobody named a storage."""


def install(path: str | os.PathLike[str]) -> None:
    """Keep CrewAI's memory, flow states and locks of this process in one place.

    Call it before modules that define flows are imported: ``@persist()`` looks for its store when it decorates.
    Whatever is given a store explicitly keeps that. Checkpoints go where their `CheckpointConfig` says: give it a
    `LandedJsonProvider`.

    Args:
        path: a directory, created when missing, or an engine's address (``postgresql://...``, ``s3://...``). Shared by
            any number of processes.

    Raises:
        Refused: no engine has that address, or the server cannot carry journals. Nothing was installed.
        NotLanded: the directory cannot be made, or the server cannot be reached. Nothing was installed.
    """
    path = absolute(path)
    persistence, locks = LandedFlowPersistence(path=path), Locks(path)
    set_memory_storage_factory(partial(_memory, LandedStorage(path)))
    set_flow_persistence_factory(lambda: persistence)
    set_lock_backend(locks)


def uninstall() -> None:
    """Give this process CrewAI's own stores back."""
    set_memory_storage_factory(None)
    set_flow_persistence_factory(None)
    set_lock_backend(None)


def _memory(installed: LandedStorage, spec: str) -> LandedStorage | None:
    """The storage for a spec of CrewAI: its default, or one of ours; others are not ours to decide."""
    if spec in {DEFAULT, installed.spec}:  # the spec alone knows no password
        return LandedStorage(installed.path)
    return LandedStorage.from_spec(spec)
