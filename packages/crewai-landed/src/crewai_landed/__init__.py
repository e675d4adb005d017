"""CrewAI state that lands: memory, flow persistence and checkpoints that say when they did not save.

    Memory(storage=LandedStorage("./crew-state"))

Names are loaded when they are first used: importing this package does not import crewai, which takes seconds.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from crewai_landed.checkpoints import CheckpointFailed as CheckpointFailed
    from crewai_landed.checkpoints import LandedJsonProvider as LandedJsonProvider
    from crewai_landed.flows import LandedFlowPersistence as LandedFlowPersistence
    from crewai_landed.flows import SavedState as SavedState
    from crewai_landed.ledger import Counts as Counts
    from crewai_landed.ledger import NotStored as NotStored
    from crewai_landed.locks import Locks as Locks
    from crewai_landed.memory import LandedMemory as LandedMemory
    from crewai_landed.storage import LandedStorage as LandedStorage
    from crewai_landed.wiring import install as install
    from crewai_landed.wiring import uninstall as uninstall

_HOME = {
    "CheckpointFailed": "checkpoints",
    "Counts": "ledger",
    "LandedFlowPersistence": "flows",
    "LandedJsonProvider": "checkpoints",
    "LandedMemory": "memory",
    "LandedStorage": "storage",
    "Locks": "locks",
    "NotStored": "ledger",
    "SavedState": "flows",
    "install": "wiring",
    "uninstall": "wiring",
}
__all__ = ["__version__", *_HOME]  # noqa: PLE0604 - all of them are strings


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'crewai_landed' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"crewai_landed.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
