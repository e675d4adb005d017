"""(h) A script gives CrewAI's memory something to remember, and ends.

The memory stores in the background. When the script ends, what was under way is dropped: nothing is stored, nothing is
said, and the exit status is 0.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from demo.offline_crewai import nursery, prepare
from demo.scene import Outcome, Program, Scene, tell
from landed.report import model
from landed.report.model import Event

if TYPE_CHECKING:
    from collections.abc import Callable

TITLE = "A script ends right after remember_many"
REPORTS = "crewAIInc/crewAI #4768, #6497"

BATCHES = 20
CASES = (f"{BATCHES} times two memories, and the script ends",)
BOUND = 10
DIMENSION = 32


def stock(scene: Scene, _case: str) -> Outcome:
    outcome = Outcome("Memory, LanceDB")
    return scene.until_shown(outcome, BOUND, lambda outcome: _attempt(scene, outcome, stock_script))


def landed(scene: Scene, _case: str) -> Outcome:
    outcome = Outcome("LandedMemory, LandedStorage")
    return scene.until_shown(outcome, BOUND, lambda outcome: _attempt(scene, outcome, landed_script))


def _attempt(scene: Scene, outcome: Outcome, script: Callable[[str], None]) -> None:
    directory = str(scene.empty())
    with Program(script, directory, nursery=nursery()) as program:
        accepted = sum(line == "accepted" for line in program.lines()) * 2
        status = program.end()
    count = count_landed if script is landed_script else count_stock
    with Program(count, directory, nursery=nursery()) as counting:
        found = int(counting.hear())
    outcome.acknowledged = f"{accepted} memories"
    outcome.found = f"{found} memories"
    outcome.heard = f"nothing; exit status {status}"
    outcome.kept = found == accepted == BATCHES * 2 and status == 0
    outcome.shown = outcome.kept if script is landed_script else found < accepted
    outcome.artifact = "the memory of one script"
    kind = model.LANDED if found == accepted else model.TOLD if found else model.LOST
    outcome.events = [Event(kind, "the script", "two memories, accepted", at) for at, _ in program.told]


# In the programs.


def stock_script(directory: str) -> None:
    prepare(directory)
    from crewai.memory.storage.lancedb_storage import LanceDBStorage  # pyright: ignore[reportMissingImports]
    from crewai.memory.unified_memory import Memory  # pyright: ignore[reportMissingImports]

    _remember(Memory, LanceDBStorage(path=_lance(directory)))


def landed_script(directory: str) -> None:
    prepare(directory)
    from crewai_landed import LandedMemory, LandedStorage  # pyright: ignore[reportMissingImports]

    _remember(LandedMemory, LandedStorage(directory))


def _remember(kind: Any, storage: Any) -> None:  # noqa: ANN401 - CrewAI is there where the demo runs, not where it is read
    memory = kind(storage=storage, embedder=_embed, consolidation_threshold=1.0)
    for number in range(BATCHES):
        texts = [f"valve {number} is open", f"pump {number} is off"]
        memory.remember_many(texts, scope="/plant", categories=[], importance=0.5)
        tell("accepted")


def count_stock(directory: str) -> None:
    prepare(directory)
    import lancedb  # pyright: ignore[reportMissingImports]

    try:
        tell(lancedb.connect(_lance(directory)).open_table("memories").count_rows())
    except ValueError:  # there is no table
        tell(0)


def count_landed(directory: str) -> None:
    prepare(directory)
    from crewai_landed import LandedStorage  # pyright: ignore[reportMissingImports]

    tell(LandedStorage(directory).count())


def _lance(directory: str) -> str:
    return os.path.join(directory, "lance")


def _embed(texts: list[str]) -> list[list[float]]:
    """A vector for each text, no two of them alike: of those that are, CrewAI asks a language model which to keep."""
    return [[byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()[:DIMENSION]] for text in texts]
