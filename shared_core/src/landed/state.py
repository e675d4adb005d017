"""Where landed keeps what it knows: locks and records live in a store, keyed by the resolved path.

One store per user by default, so that every program that uses landed meets at the same lock and no work tree is
littered. A directory that several users or containers share holds its own store, ``DIR/.landed``, made by
``landed init``; every program finds it by walking up from the path. Keys there are relative to the directory, so that
containers that mount it under different names still meet.
"""

from __future__ import annotations

import os
import sys

from landed.errors import NotLanded, Refused, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed import _fs

STORE_NAME: Final = ".landed"
"""The store of a shared directory, in that directory."""
ARTIFACTS: Final = "artifacts"
"""In a store: locks, records and logs of whole files."""
SYMLINKS: Final = 40
"""Links followed for one path before it counts as a loop, as in the Linux kernel."""


class Store:
    """A directory that holds locks, records and logs.

    Attributes:
        root: the store's own directory.
        base: for a shared directory, the directory whose paths it keeps; "" for the store of a user.
        mode: permission bits of files in it; directories have the search bits as well.
    """

    __slots__ = ("base", "mode", "root")

    def __init__(self, root: str, base: str = "", mode: int = 0o600) -> None:
        self.root = root
        self.base = base
        self.mode = mode

    @property
    def artifacts(self) -> str:
        return os.path.join(self.root, ARTIFACTS)

    def name_of(self, path: str) -> str:
        """The true name that `path` (resolved, absolute) has in this store."""
        return os.path.relpath(path, self.base) if self.base else path

    def path_of(self, name: str) -> str:
        """The absolute path of a true name."""
        return os.path.join(self.base, name) if self.base else name

    def make(self, fs: _fs.FileOps) -> None:
        """Create the directories that are missing.

        Raises:
            NotLanded: they cannot be made.
        """
        try:
            make_directories(fs, self.artifacts, directory_mode(self.mode))
        except OSError as error:
            raise from_os_error(
                NotLanded,
                error,
                "the directory for locks and records cannot be made",
                path=self.artifacts,
                step="state",
                hint="Set LANDED_STATE_DIR to a directory that this user can write.",
            ) from error


def directory_mode(mode: int) -> int:
    """The bits of a directory whose files have `mode`: whoever may read a file may search its directory."""
    return mode | (mode & 0o444) >> 2


def make_directories(fs: _fs.FileOps, path: str, mode: int) -> list[str]:
    """Create a directory and its missing parents.

    Returns:
        The directories that were created, deepest first.
    """
    created: list[str] = []
    missing = []
    while True:
        try:
            fs.mkdir(path, mode)
        except FileNotFoundError:
            missing.append(path)
            path = os.path.dirname(path)
            continue
        except FileExistsError:
            fs.listdir(path) if not missing else None
        else:
            created.insert(0, path)
        if not missing:
            return created
        path = missing.pop()


def user_store() -> Store:
    """The store of this user: ``LANDED_STATE_DIR``, else the platform's state directory."""
    chosen = os.environ.get("LANDED_STATE_DIR")
    if chosen:
        return Store(os.path.realpath(chosen))
    home = os.path.expanduser("~")
    if sys.platform == "darwin":
        root = os.path.join(home, "Library", "Application Support", "landed")
    elif sys.platform == "win32":
        root = os.path.join(os.environ.get("LOCALAPPDATA") or home, "landed", "state")
    else:
        root = os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state"), "landed")
    return Store(root)


def store_for(directory: str, fs: _fs.FileOps) -> Store:
    """The store that keeps paths in `directory` (resolved): the nearest ``.landed`` above it, else the user's.

    Nothing is remembered between calls: a store that appears must be found by the next write of every program.
    """
    above = directory
    while True:
        root = os.path.join(above, STORE_NAME)
        try:
            status = fs.stat(os.path.join(root, ARTIFACTS), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            parent = os.path.dirname(above)
            if parent == above:
                return user_store()
            above = parent
        else:
            return Store(root, above, status.st_mode & 0o666)


def resolve(path: str | os.PathLike[str]) -> str:
    """The absolute path behind every symbolic link; the last component need not exist.

    Raises:
        Refused: the path is empty, holds a NUL, or is a loop of links.
    """
    name = os.fspath(path)
    if not isinstance(name, str):
        raise Refused("a path is a str or an os.PathLike of str", path=os.fsdecode(name), step="path")
    if not name or "\0" in name:
        raise Refused("a path is not empty and holds no NUL", path=repr(name), step="path")
    real = os.path.realpath(name)
    if os.path.islink(real):  # realpath leaves a loop as it is
        raise Refused("the path is a loop of symbolic links", path=name, step="path")
    if name[-1:] in {os.sep, os.altsep} or os.path.basename(real) == "":
        raise Refused("the path names a directory", path=name, step="path", hint="Name a file in it.")
    return real


def case_key(path: str) -> str:
    """`path` as it is keyed: folded where the file system does not tell case or Unicode forms apart."""
    if sys.platform not in {"darwin", "win32"}:
        return path
    if sys.platform == "darwin":  # pragma: no cover - run on macOS only
        try:
            if os.pathconf(os.path.dirname(path), _PC_CASE_SENSITIVE):
                return path
        except OSError:
            return _folded(path)
    return _folded(path)  # pragma: no cover - run on macOS and Windows only


def _folded(path: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", path).casefold()


_PC_CASE_SENSITIVE: Final = 11
"""pathconf(2) on macOS; Python has no name for it."""
