"""Writes that land: when a call returns, the bytes are on the disk, under that name, verified.

    doc = landed.read("plan.md")
    landed.write("plan.md", new_bytes, expect=doc.version)
    with landed.edit("plan.md") as doc:
        doc.text = doc.text.replace("todo", "done")

Names are loaded when they are first used, so that `import landed` costs next to nothing.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from landed import aio as aio
    from landed.entries import Entry as Entry
    from landed.entries import Record as Record
    from landed.errors import Bypassed as Bypassed
    from landed.errors import Claimed as Claimed
    from landed.errors import Corrupt as Corrupt
    from landed.errors import Full as Full
    from landed.errors import LandedError as LandedError
    from landed.errors import LockTimeout as LockTimeout
    from landed.errors import NotLanded as NotLanded
    from landed.errors import OutcomeUnknown as OutcomeUnknown
    from landed.errors import Refused as Refused
    from landed.errors import StaleWrite as StaleWrite
    from landed.errors import VerifyFailed as VerifyFailed
    from landed.files import Files as Files
    from landed.files import delete as delete
    from landed.files import edit as edit
    from landed.files import read as read
    from landed.files import verify as verify
    from landed.files import write as write
    from landed.journal import Appended as Appended
    from landed.journal import Compacted as Compacted
    from landed.journal import Journal as Journal
    from landed.journals import Journals as Journals
    from landed.lock import Lock as Lock
    from landed.records import ABSENT as ABSENT
    from landed.records import ANY as ANY
    from landed.records import SEEN as SEEN
    from landed.values import Draft as Draft
    from landed.values import Receipt as Receipt
    from landed.values import Snapshot as Snapshot

_HOME = {
    **dict.fromkeys(("Files", "delete", "edit", "read", "verify", "write"), "files"),
    **dict.fromkeys(("Draft", "Receipt", "Snapshot"), "values"),
    **dict.fromkeys(
        (
            "Bypassed",
            "Claimed",
            "Corrupt",
            "Full",
            "LandedError",
            "LockTimeout",
            "NotLanded",
            "OutcomeUnknown",
            "Refused",
            "StaleWrite",
            "VerifyFailed",
        ),
        "errors",
    ),
    **dict.fromkeys(("Entry", "Record"), "entries"),
    **dict.fromkeys(("Appended", "Compacted", "Journal"), "journal"),
    **dict.fromkeys(("ABSENT", "ANY", "SEEN"), "records"),
    "Journals": "journals",
    "Lock": "lock",
}
_MODULES = ("aio",)
__all__ = ["__version__", *_HOME, *_MODULES]  # noqa: PLE0604 - all of them are strings


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None and name not in _MODULES:  # before importlib: `from landed import _fs` asks here first
        raise AttributeError(f"module 'landed' has no attribute {name!r}")
    import importlib

    if home is None:
        return importlib.import_module(f"landed.{name}")
    value = getattr(importlib.import_module(f"landed.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
