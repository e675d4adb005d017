"""On the path of a process that a test starts, it plants a bug there: what is accepted is not booked."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from crewai.memory.unified_memory import Memory

from crewai_landed import LandedMemory

LandedMemory._submit_save = Memory._submit_save  # type: ignore[method-assign]
