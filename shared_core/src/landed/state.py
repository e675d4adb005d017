"""Where landed keeps what it knows: locks and records live in a store, keyed by the resolved path.

One store per user by default, so that every program that uses landed meets at the same lock and no work tree is
littered. A directory that several users or containers share holds its own store, ``DIR/.landed``, made by
``landed init``; every program finds it by walking up from the path. Keys there are relative to the directory, so that
containers that mount it under different names still meet.
"""

from __future__ import annotations

import sys

from landed import _fs
from landed._fs import SEP, environ, parent_of, posix
from landed.errors import NotLanded, Refused, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from typing import Final


STORE_NAME: Final = ".landed"
"""The store of a shared directory, in that directory."""
BENCH: Final = ".landed-doctor-"
"""Begins the name of a directory in which `landed doctor` breaks writes on purpose; one that is killed leaves it."""
STICKY: Final = 0o1000
"""The bit of a directory like ``/tmp``, where everybody keeps to their own files."""
UNFLUSHED: Final = ".landed-unflushed"
"""In a directory with one in it whose name could be neither flushed nor taken back."""
ATTEMPTS: Final = 16
"""How often a directory may be missing that was there a moment ago, as another process has removed it, before that is
how the system says that none can be made there (/proc)."""
LINKS: Final = 40
"""Links that lead to one another before that counts as a loop, as in Linux."""
ARTIFACTS: Final = "artifacts"
"""In a store: locks, records and logs of whole files."""


class Store:
    """A directory that holds locks, records and logs.

    Attributes:
        root: the store's own directory.
        base: for a shared directory, the directory whose paths it keeps; "" for the store of a user.
        artifacts: the directory of whole files' locks, records and logs in it.
        mode: permission bits of files in it; directories have the search bits as well.
    """

    __slots__ = ("_identity", "artifacts", "base", "mode", "root")

    def __init__(self, root: str, base: str = "", mode: int = 0o600) -> None:
        self.root = root
        self.base = base
        self.mode = mode
        self.artifacts = f"{root}{SEP}{ARTIFACTS}"
        self._identity = ""

    def name_of(self, path: str) -> str:
        """The true name that `path` (resolved, absolute) has in this store."""
        return case_key(path, path[len(self.base.rstrip(SEP)) + 1 :] if self.base else path)

    def path_of(self, name: str) -> str:
        """The absolute path of a true name."""
        return f"{self.base.rstrip(SEP)}{SEP}{name}" if self.base else name

    def identity(self, fs: _fs.FileOps) -> str:
        """What tells this store from others, whatever they are called: device and inode.

        Raises:
            NotLanded: it cannot be looked up.
        """
        if not self._identity:
            try:
                status = fs.stat(self.artifacts)
            except OSError as error:
                raise from_os_error(
                    NotLanded, error, "the store cannot be looked up", path=self.artifacts, step="state"
                ) from error
            self._identity = f"{status.st_dev:x}.{status.st_ino:x}"
        return self._identity

    def make(self, fs: _fs.FileOps) -> None:
        """Create the directories that are missing, and flush their names.

        Raises:
            NotLanded: they cannot be made.
        """
        created: list[str] = []
        try:
            make_directories(fs, self.artifacts, directory_mode(self.mode), created)
            if created:
                flush_ancestors(fs, self.artifacts, created)
        except OSError as error:
            remove_directories(fs, created)
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


def make_directories(fs: _fs.FileOps, path: str, mode: int, created: list[str]) -> None:
    """Create a directory and its missing parents; add those that were created to `created`, deepest first.

    Raises:
        OSError: as the system does; `created` then has what was made before.
    """
    missing = []
    tries = path.count(SEP) + ATTEMPTS
    while True:
        try:
            fs.mkdir(path, mode)
        except FileNotFoundError:
            tries -= 1
            if tries == 0:
                raise
            missing.append(path)
            path = parent_of(path)
            continue
        except FileExistsError:
            if not missing:
                return
        else:
            created.insert(0, path)
        if not missing:
            return
        path = missing.pop()


def remove_directories(fs: _fs.FileOps, made: list[str]) -> None:
    """Remove directories that were made for nothing, deepest first, up to one that somebody uses by now."""
    for path in made:
        try:
            fs.rmdir(path)
        except OSError:
            return


def flush_ancestors(fs: _fs.FileOps, path: str, made: Sequence[str] = ()) -> None:
    """Flush the names of a directory and of all above it, as far as this user can open them.

    Another process may have made one of them and died, or be about to flush it: what is put there is durable only when
    they are. POSIX asks for it; ext4, xfs and btrfs keep the ancestors of a flushed directory by themselves.

    Args:
        made: the directories that the caller has just made, deepest first. They are removed again when the flush of
            one's name fails; where that fails as well, `UNFLUSHED` is left beside it.

    Raises:
        OSError: a flush failed, or the parent of one that was made cannot be opened for it.
    """
    while (parent := parent_of(path)) != path:
        try:
            directory = _fs.Directory(parent, fs)
        except PermissionError:
            if path in made:
                raise
            return  # not a directory that programs of this user make
        with directory:
            try:
                _flush(directory)
            except OSError:
                _unflushed.add(parent)
                if path in made:
                    _take_back(fs, directory, path, made)
                raise
        path = parent


_unflushed: set[str] = set()
"""Directories that this program failed to flush: it does not ask for the same again."""


def _flush(directory: _fs.Directory) -> None:
    """Flush a directory; by way of a change where an earlier flush failed, in this program or one that left its mark.

    That writes the block which holds the name anew. In a directory of many blocks it may be another one: then only the
    file system's own refusal to go on after a failed flush (ext4, xfs and btrfs do refuse) stands before a loss.
    """
    try:
        directory.lstat(UNFLUSHED)
        marked = True
    except FileNotFoundError:
        marked = False
    if marked or directory.path in _unflushed:
        directory.change(f"{UNFLUSHED}-{posix.urandom(6).hex()}")
    directory.sync()
    try:
        if marked:
            directory.unlink(UNFLUSHED)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        return  # another program was at it as well, or it is another user's, who then removes it, or is no mark


def _take_back(fs: _fs.FileOps, directory: _fs.Directory, path: str, made: Sequence[str]) -> None:
    """Remove what was made, as the flush of the name of `path` in `directory` failed.

    The kernel counts a name whose flush failed as flushed: whoever found it would take it for durable. So the mark is
    set first, and goes with the name.
    """
    try:
        fs.close(directory.open(UNFLUSHED, posix.O_WRONLY | posix.O_CREAT | _fs.KEPT))
        for one in made:
            fs.rmdir(one)
            if one == path:
                directory.unlink(UNFLUSHED)
    except OSError:
        return  # the error of the flush is on its way; what is left is marked, or else the caller still removes it


_user_stores: dict[tuple[str | None, ...], Store] = {}


def user_store() -> Store:
    """The store of this user: ``LANDED_STATE_DIR``, else the platform's state directory.

    Raises:
        Refused: another user has made it.
    """
    chosen = environ("LANDED_STATE_DIR")
    others = (None,) * 3 if chosen else tuple(map(environ, ("XDG_STATE_HOME", "LOCALAPPDATA", "HOME")))
    settings = (sys.platform, chosen, *others)
    store = _user_stores.get(settings)
    if store is None:
        root = _user_root(*settings[1:])
        root = _real_directory(root) or _fs.os_path().realpath(root)
        _refuse_another_users(root)
        store = _user_stores[settings] = Store(root)
    return store


def _refuse_another_users(root: str) -> None:
    try:
        status = _fs.LOCAL.stat(root)
        if _may_keep(status, parent_of(root), _fs.LOCAL) or posix.geteuid() == 0:
            return  # root in a container often works on what is another user's outside
    except OSError:
        return  # it is to be made, or whoever uses it is told
    raise Refused(
        f"the directory for locks and records belongs to user {status.st_uid}",
        path=root,
        step="state",
        hint="Set LANDED_STATE_DIR to a directory of this user.",
    )


def _user_root(chosen: str | None, xdg: str | None, local: str | None, home: str | None) -> str:
    if chosen:
        return chosen
    if sys.platform == "win32" or not home:
        home = _fs.os_path().expanduser("~")
    if sys.platform == "darwin":
        return f"{home}/Library/Application Support/landed"
    if sys.platform == "win32":
        return f"{local or home}{SEP}landed{SEP}state"
    return f"{xdg or f'{home}/.local/state'}/landed"


def store_for(directory: str, fs: _fs.FileOps) -> Store:
    """The store that keeps paths in `directory` (resolved): the nearest ``.landed`` above it, else the user's.

    Nothing is remembered between calls: a store that appears must be found by the next write of every program.

    Raises:
        NotLanded: a directory above cannot be searched, or is none.
    """
    stat = fs.stat
    above = directory.rstrip(SEP)
    while True:
        try:
            status = stat(above + _SHARED, follow_symlinks=False)
            _refuse_planted(status, above or SEP, fs)
        except _NONE_THERE:
            if not above:
                return user_store()
            above = above[: max(0, above.rfind(SEP))]
        except OSError as error:
            what = "the store that keeps it cannot be looked for"
            hint = "Do it as a user who may enter the directory." if isinstance(error, PermissionError) else ""
            raise from_os_error(NotLanded, error, what, path=directory, step="state", hint=hint) from error
        else:
            return Store(f"{above}{SEP}{STORE_NAME}", above or SEP, status.st_mode & 0o666)


_SHARED: Final = f"{SEP}{STORE_NAME}{SEP}{ARTIFACTS}"
"""What makes a directory shared, after its path."""
_NONE_THERE: Final = (FileNotFoundError, NotADirectoryError)


def _refuse_planted(artifacts: os.stat_result, base: str, fs: _fs.FileOps) -> None:
    """A store rules over everything below it: refuse one, or a link to one, that a neighbour has put there."""
    path = f"{base.rstrip(SEP)}{SEP}{STORE_NAME}"
    for status in (artifacts, fs.stat(path, follow_symlinks=False)):
        if not _may_keep(status, base, fs):
            raise Refused(
                f"the store above it belongs to user {status.st_uid}, who does not own its directory",
                path=path,
                step="state",
                hint="Remove it, or have the owner of the directory make it: landed init",
            )


def _may_keep(status: os.stat_result, base: str, fs: _fs.FileOps) -> bool:
    """Whether something that keeps locks or records in `base` is ours, root's, or of the owner of `base`.

    Raises:
        OSError: as the system does.
    """
    return status.st_uid == 0 or _fs.WINDOWS or _fs.is_ours(status) or status.st_uid == fs.stat(base).st_uid


def resolve(path: str | os.PathLike[str]) -> str:
    """The absolute path behind every symbolic link; the last component need not exist.

    Raises:
        Refused: the path is empty, holds a NUL, is a loop of links, names a directory, or has no form in bytes.
    """
    name = posix.fspath(path)
    if not isinstance(name, str):
        raise Refused("a path is a str or an os.PathLike of str", path=_fs.decoded(name), step="path")
    if not name or "\0" in name:
        raise Refused("a path is not empty and holds no NUL", path=repr(name), step="path")
    if "://" in name:
        from landed.engines import refuse_address  # no path of a file looks like this

        refuse_address(name)
    if name[-1] == SEP or name.rpartition("/")[2] in {"", ".", ".."}:
        raise Refused("the path names a directory", path=name, step="path", hint="Name a file in it.")
    try:
        if not name.isascii():
            name = _fs.decoded(_fs.encoded(name))  # two strings can be one name in bytes, which the file system knows
        real = _in_real_directory(name) or _behind_links(name)
    except UnicodeEncodeError as error:
        raise Refused(f"the path has no form in bytes: {error}", path=ascii(name), step="path") from error
    except OSError as error:
        raise from_os_error(Refused, error, "the path cannot be resolved", path=name, step="path") from error
    if real[-1] == SEP:
        raise Refused("the path names a directory", path=name, step="path", hint="Name a file in it.")
    return real


def absolute(path: str) -> str:
    """The absolute path of a directory, whether or not it is there; links stay in it.

    Raises:
        Refused: the path has no form in bytes, or the working directory that it begins in is gone.
    """
    try:
        found: str = _fs.os_path().abspath(_fs.decoded(_fs.encoded(path)))
        return found
    except UnicodeEncodeError as error:
        raise Refused(f"the path has no form in bytes: {error}", path=ascii(path), step="path") from error
    except OSError as error:
        raise from_os_error(Refused, error, "the path cannot be resolved", path=path, step="path") from error


def _behind_links(name: str) -> str:
    """Where a path leads that is a link, or whose directory is missing: link by link, each judged as it is read.

    Raises:
        Refused: a loop, or a link that is not to be followed.
        OSError: as the system does.
    """
    realpath: Callable[[str], str] = _fs.os_path().realpath
    path = name
    for _ in range(LINKS):
        head, slash, last = path.rpartition(SEP)
        target = None if _fs.WINDOWS else _link_at(path)
        if target is None and (_fs.WINDOWS or last in {".", ".."}):
            real = realpath(path)
            if _is_link(real):  # it leaves a loop as it is
                break
            return real
        if target is None:
            path = f"{realpath(head or slash or '.').rstrip(SEP)}{SEP}{last}"
            if not _is_link(path):
                return path
            continue
        path = target.rstrip(SEP) or SEP
        if path[0] != SEP:
            path = f"{head}{slash}{path}"
        if real := _in_real_directory(path):
            return real
    raise Refused("the path is a loop of symbolic links", path=name, step="path")


def _link_at(path: str) -> str | None:
    """What a link holds; None for what is no link. In a directory like ``/tmp`` nobody else's links are followed.

    As Linux does where fs.protected_symlinks is on. What is judged is what is read, whatever takes its place meanwhile.

    Raises:
        Refused: another user has made it, or it changes all the time.
        OSError: its directory cannot be looked at.
    """
    for _ in range(ATTEMPTS):
        try:
            link = posix.lstat(path)
            if link.st_mode & _fs.KIND != _fs.LINK:
                return None
            target: str = posix.readlink(path)
            again = posix.lstat(path)
        except OSError:  # it is gone, or no link any more, or cannot be looked at: whoever opens it hears that
            return None
        if (link.st_dev, link.st_ino, link.st_ctime_ns) == (again.st_dev, again.st_ino, again.st_ctime_ns):
            _refuse_planted_link(path, link)
            return target
    raise Refused("the path is a link that changes all the time", path=path, step="path")


def _refuse_planted_link(path: str, link: os.stat_result) -> None:
    directory = posix.stat(path.rpartition(SEP)[0] or (SEP if path[0] == SEP else "."))
    if directory.st_mode & STICKY and link.st_uid != 0 and not _fs.is_ours(link):
        raise Refused(
            f"the path is a link that user {link.st_uid} has made, in a directory where everybody keeps to their own",
            path=path,
            step="path",
            hint="Name the file that it leads to.",
        )


def _in_real_directory(name: str) -> str:
    """The absolute path of `name` if its directory exists and it is no link itself, else "": what most paths are."""
    head, slash, last = name.rpartition("/")
    if last in {".", ".."}:
        return ""
    directory = _real_directory(head or slash or ".")
    real = f"{directory.rstrip('/')}/{last}"
    return "" if not directory or _is_link(real) else real


def _real_directory(path: str) -> str:
    """Where an existing directory is behind every link; "" where `os.path.realpath` knows better what to make of it."""
    try:
        directory = _fs.real_directory(path)
    except OSError:
        return ""
    # Linux says "(deleted)" of a directory that has no path any more.
    return directory if directory.startswith("/") and not directory.endswith(" (deleted)") else ""


def _is_link(path: str) -> bool:
    try:
        return posix.lstat(path).st_mode & _fs.KIND == _fs.LINK
    except (OSError, ValueError):
        return False


def case_key(path: str, name: str) -> str:
    """`name`, of the file at `path`, as it is keyed: folded where the file system does not tell case."""
    if sys.platform not in {"darwin", "win32"}:
        return name
    if sys.platform == "darwin":  # pragma: no cover - run on macOS only
        try:
            directory = parent_of(path)
            while not _fs.os_path().isdir(directory):
                directory = parent_of(directory)
            if posix.pathconf(directory, _PC_CASE_SENSITIVE):
                return name
        except OSError:
            return _folded(name)
    return _folded(name)  # pragma: no cover - run on macOS and Windows only


def _folded(name: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", name).casefold()


_PC_CASE_SENSITIVE: Final = 11
"""pathconf(2) on macOS; Python has no name for it."""
