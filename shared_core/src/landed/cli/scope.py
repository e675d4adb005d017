"""Which files a command is about: one path, all below a directory, or all that this user has."""

from __future__ import annotations

import os

from landed.artifact import Artifact
from landed.audit import stores
from landed.errors import Refused
from landed.inventory import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from landed.state import Store


class Scope:
    """The entries that a command looks at.

    Attributes:
        entries: each a store and the key of a file in it.
        under: the resolved directory that the files must be in; "" for no limit.
        path: the one file that was named, or None.
        words: the scope as a reader would say it.
    """

    __slots__ = ("entries", "path", "under", "words")

    def __init__(self, entries: list[tuple[Store, str]], under: str, path: str | None, words: str) -> None:
        self.entries = entries
        self.under = under
        self.path = path
        self.words = words

    def refuse_nothing(self, target: str | None, *, known: bool) -> None:
        """Refuse a path that is not there and of which nothing is known: all would seem well with a mistyped one.

        Raises:
            Refused: so it is.
        """
        if target is not None and not known and not os.path.lexists(target):
            what = "it is not there, and landed has no record of it"
            raise Refused(what, path=self.words, step="look", hint="Check the path.")


def scope_of(target: str | None) -> Scope:
    """The scope that a command's PATH or DIR names.

    Raises:
        Refused: the path cannot be a file's.
    """
    if target is not None and not os.path.isdir(target):
        artifact = Artifact(target)
        if os.path.lexists(target) or artifact.shelf.load().sequence:
            return Scope([(artifact.store, artifact.key)], "", artifact.path, artifact.path)
        # Never a file that landed wrote: a directory, then, that is gone with all that was in it.
        entries = [(artifact.store, key) for key in keys(artifact.store)]
        return Scope(entries, artifact.path, None, artifact.path)
    found = stores(target)
    entries = [(store, key) for store in found for key in keys(store)]
    if target is None:
        return Scope(entries, "", None, " and ".join(store.base or store.root for store in found))
    under = os.path.realpath(target)
    return Scope(entries, under, None, under)
