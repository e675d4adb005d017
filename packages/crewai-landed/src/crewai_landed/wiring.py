"""Make CrewAI use landed everywhere in this process."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from crewai.flow.persistence.factory import set_flow_persistence_factory
from crewai.memory.storage.factory import set_memory_storage_factory
from crewai_core.lock_store import set_lock_backend

from crewai_landed.flows import LandedFlowPersistence
from crewai_landed.locks import LOCKS, Locks
from crewai_landed.storage import LandedStorage

if TYPE_CHECKING:
    from typing import Final

DEFAULT: Final = "lancedb"
"""What CrewAI asks for where nobody named a storage."""


def install(path: str | os.PathLike[str]) -> None:
    """Keep CrewAI's memory, flow states and locks of this process in a directory.

    Call it before modules that define flows are imported: ``@persist()`` looks for its store when it decorates.
    Whatever is given a store explicitly keeps that. Checkpoints go where their `CheckpointConfig` says: give it a
    `LandedJsonProvider`.

    Args:
        path: the directory; created when missing. Shared by any number of processes.

    Raises:
        NotLanded: the directory cannot be made. Nothing was installed.
    """
    path = os.path.abspath(path)
    persistence, locks = LandedFlowPersistence(path=path), Locks(os.path.join(path, LOCKS))
    set_memory_storage_factory(partial(_memory, path))
    set_flow_persistence_factory(lambda: persistence)
    set_lock_backend(locks)


def uninstall() -> None:
    """Give this process CrewAI's own stores back."""
    set_memory_storage_factory(None)
    set_flow_persistence_factory(None)
    set_lock_backend(None)


def _memory(path: str, spec: str) -> LandedStorage | None:
    """The storage for a spec of CrewAI: its default, or one of ours; others are not ours to decide."""
    return LandedStorage(path) if spec == DEFAULT else LandedStorage.from_spec(spec)
