"""`ModelFS`: landed's file operations over a `Disk` in memory, as one process sees it.

It has its own descriptors, and nothing here reaches the operating system. `model_calls` records its calls and lets a
test fail any of them; `model_crash` turns a disk into what a power cut may leave of it.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable

from model_calls import Call, Fault, system_call
from model_disk import Data, Disk, Entries, Meta, Node, Saved, Size

from landed._fs import DIRECTORY, NOFOLLOW, FileOps

NAME_LIMIT = 255
LINK_LIMIT = 40
PAGE = 4096
FIRST_FD = 1_000_000
"""Far above every real descriptor, so that a model descriptor that escapes to the operating system is an error."""
ACCESS_MODES = os.O_RDONLY | os.O_WRONLY | os.O_RDWR


def oserror(code: int, name: str | None = None) -> OSError:
    """The subclass of OSError that the system raises for `code`."""
    return OSError(code, os.strerror(code), name)


@functools.cache
def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


class _Description:
    """An open file description: what locks and offsets belong to."""

    __slots__ = ("flags", "node", "offset")

    def __init__(self, node: Node, flags: int) -> None:
        self.node = node
        self.flags = flags
        self.offset = 0


class ModelFS(FileOps):
    """One process's view of a disk.

    Attributes:
        log: every call, in order.
        fault: asked before each call; may return a `Fault` or raise.
        boundary: told after each call.
    """

    def __init__(self, disk: Disk | None = None) -> None:
        self.disk = disk if disk is not None else Disk()
        self.log: list[Call] = []
        self.fault: Callable[[Call], Fault | None] | None = None
        self.boundary: Callable[[Call], None] | None = None
        self._fds: dict[int, _Description] = {}
        self._next_fd = FIRST_FD

    @property
    def open_descriptors(self) -> int:
        return len(self._fds)

    def exit(self) -> None:
        """The process ends: the kernel closes its descriptors and frees its locks."""
        self.fault = self.boundary = None
        for fd in list(self._fds):
            self.close(fd)

    # Paths.

    def _description(self, fd: int) -> _Description:
        try:
            return self._fds[fd]
        except KeyError:
            raise oserror(errno.EBADF) from None

    def _locate(
        self, path: str, dir_fd: int | None = None, *, follow: bool = True, base: Node | None = None, depth: int = 0
    ) -> tuple[Node, str, Node | None]:
        """The directory, the last component, and the node there or None."""
        if depth > LINK_LIMIT:
            raise oserror(errno.ELOOP, path)
        node = self.disk.root
        if not path.startswith("/"):
            node = base if base is not None else self._description(-1 if dir_fd is None else dir_fd).node
        parts = _parts(path)
        if not parts:
            return node, "", node
        for part in parts[:-1]:
            node = self._child(node, part, path, depth)
        if node.kind != stat.S_IFDIR:
            raise oserror(errno.ENOTDIR, path)
        name = parts[-1]
        if len(name) > NAME_LIMIT // 4 and len(os.fsencode(name)) > NAME_LIMIT:
            raise oserror(errno.ENAMETOOLONG, path)
        found = node.entries.get(name)
        if found is not None and found.kind == stat.S_IFLNK and follow:
            return self._locate(found.target, base=node, depth=depth + 1)
        return node, name, found

    def _child(self, node: Node, part: str, path: str, depth: int) -> Node:
        if node.kind != stat.S_IFDIR:
            raise oserror(errno.ENOTDIR, path)
        child = node.entries.get(part)
        if child is not None and child.kind == stat.S_IFLNK:
            child = self._locate(child.target, base=node, depth=depth + 1)[2]
        if child is None:
            raise oserror(errno.ENOENT, path)
        return child

    def _existing(self, path: str, dir_fd: int | None = None, *, follow: bool = True) -> Node:
        node = self._locate(path, dir_fd, follow=follow)[2]
        if node is None:
            raise oserror(errno.ENOENT, path)
        return node

    def _enter(self, directory: Node, name: str, node: Node) -> None:
        if directory.links == 0:
            raise oserror(errno.ENOENT, name)
        node.links += 1
        directory.do(Entries((name, node)))
        self.disk.touch(directory, data=True)

    def _unlinked(self, node: Node) -> None:
        node.links -= 1
        self.disk.touch(node, data=False)
        self.disk.release(node)

    # Descriptors.

    @system_call
    def open(self, path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        directory, name, node = self._locate(path, dir_fd, follow=not flags & (NOFOLLOW | os.O_EXCL))
        if node is None:
            if not flags & os.O_CREAT:
                raise oserror(errno.ENOENT, path)
            node = self.disk.new(stat.S_IFREG, mode & ~0o022)
            self._enter(directory, name, node)
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise oserror(errno.EEXIST, path)
        if node.kind == stat.S_IFLNK:
            raise oserror(errno.ELOOP, path)
        if node.kind == stat.S_IFDIR and flags & (ACCESS_MODES | os.O_CREAT):
            raise oserror(errno.EISDIR, path)
        if node.kind != stat.S_IFDIR and flags & DIRECTORY:
            raise oserror(errno.ENOTDIR, path)
        if flags & os.O_TRUNC and node.now.data:
            node.do(Size(0))
            self.disk.touch(node, data=True)
        fd, self._next_fd = self._next_fd, self._next_fd + 1
        self._fds[fd] = _Description(node, flags)
        node.opens += 1
        return fd

    @system_call
    def close(self, fd: int) -> None:
        description = self._description(fd)
        del self._fds[fd]
        node = description.node
        node.opens -= 1
        self._unlock(description)
        self.disk.release(node)

    def _readable(self, fd: int) -> _Description:
        description = self._description(fd)
        if description.node.kind == stat.S_IFDIR:
            raise oserror(errno.EISDIR)
        if description.flags & ACCESS_MODES == os.O_WRONLY:
            raise oserror(errno.EBADF)
        return description

    def _writable(self, fd: int) -> _Description:
        description = self._description(fd)
        if description.flags & ACCESS_MODES == os.O_RDONLY:
            raise oserror(errno.EBADF)
        return description

    @system_call
    def read(self, fd: int, size: int) -> bytes:
        description = self._readable(fd)
        data = description.node.now.data[description.offset : description.offset + size]
        description.offset += len(data)
        return data

    @system_call
    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return self._readable(fd).node.now.data[offset : offset + size]

    @system_call
    def write(self, fd: int, data: bytes | memoryview) -> int:
        description = self._writable(fd)
        if description.flags & os.O_APPEND:
            description.offset = len(description.node.now.data)
        written = self._put(description.node, bytes(data), description.offset)
        description.offset += written
        return written

    @system_call
    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return self._put(self._writable(fd).node, bytes(data), offset)

    @system_call
    def lseek(self, fd: int, offset: int, whence: int) -> int:
        node = self._description(fd).node
        size = len(node.now.data)
        hole = min(size, -(-node.written // PAGE) * PAGE)
        if whence == os.SEEK_END:
            return size + offset
        if offset >= size or (whence == os.SEEK_DATA and offset >= hole):
            raise oserror(errno.ENXIO)
        return max(offset, hole) if whence == os.SEEK_HOLE else offset

    def _put(self, node: Node, data: bytes, offset: int) -> int:
        if data:
            node.written = max(node.written, offset + len(data))
            node.do(Data(offset, data))
            self.disk.touch(node, data=True)
        return len(data)

    @system_call
    def ftruncate(self, fd: int, size: int) -> None:
        node = self._writable(fd).node
        node.do(Size(size))
        self.disk.touch(node, data=True)

    @system_call
    def fsync(self, fd: int) -> None:
        self._description(fd).node.persist()

    @system_call
    def fdatasync(self, fd: int) -> None:
        self._description(fd).node.persist(metadata=False)

    @system_call
    def drop_cache(self, fd: int) -> None:
        self._description(fd).node.evict()

    # Status, names.

    @system_call
    def fstat(self, fd: int) -> os.stat_result:
        return _status(self._description(fd).node)

    @system_call
    def stat(self, path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        return _status(self._existing(path, dir_fd, follow=follow_symlinks))

    @system_call
    def rename(self, source: str, target: str, *, dir_fd: int | None = None) -> None:
        directory, old, node = self._locate(source, dir_fd, follow=False)
        other, new, replaced = self._locate(target, dir_fd, follow=False)
        if node is None:
            raise oserror(errno.ENOENT, source)
        if directory is not other:
            raise oserror(errno.EXDEV, target)  # landed renames within one directory alone
        if replaced is node:
            return
        if replaced is not None and replaced.kind == stat.S_IFDIR:
            raise oserror(errno.EISDIR if node.kind != stat.S_IFDIR else errno.ENOTEMPTY, target)
        directory.do(Entries((old, None), (new, node)))
        self.disk.touch(directory, data=True)
        self.disk.touch(node, data=False)
        if replaced is not None:
            self._unlinked(replaced)

    @system_call
    def link(self, source: str, target: str, *, dir_fd: int | None = None) -> None:
        node = self._existing(source, dir_fd, follow=False)
        directory, name, found = self._locate(target, dir_fd, follow=False)
        if found is not None:
            raise oserror(errno.EEXIST, target)
        if node.kind == stat.S_IFDIR:
            raise oserror(errno.EPERM, source)
        self._enter(directory, name, node)
        self.disk.touch(node, data=False)

    @system_call
    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        directory, name, node = self._locate(path, dir_fd, follow=False)
        if node is None:
            raise oserror(errno.ENOENT, path)
        if node.kind == stat.S_IFDIR:
            raise oserror(errno.EISDIR, path)
        directory.do(Entries((name, None)))
        self.disk.touch(directory, data=True)
        self._unlinked(node)

    @system_call
    def mkdir(self, path: str, mode: int = 0o777) -> None:
        directory, name, found = self._locate(path, follow=False)
        if found is not None:
            raise oserror(errno.EEXIST, path)
        self._enter(directory, name, self.disk.new(stat.S_IFDIR, mode & ~0o022))

    @system_call
    def rmdir(self, path: str) -> None:
        directory, name, node = self._locate(path, follow=False)
        if node is None:
            raise oserror(errno.ENOENT, path)
        if node.kind != stat.S_IFDIR:
            raise oserror(errno.ENOTDIR, path)
        if node.entries:
            raise oserror(errno.ENOTEMPTY, path)
        directory.do(Entries((name, None)))
        self.disk.touch(directory, data=True)
        self._unlinked(node)

    @system_call
    def listdir(self, path: str) -> list[str]:
        node = self._existing(path)
        if node.kind != stat.S_IFDIR:
            raise oserror(errno.ENOTDIR, path)
        return list(node.entries)

    @system_call
    def scandir(self, path: str) -> dict[str, int]:
        node = self._existing(path)
        if node.kind != stat.S_IFDIR:
            raise oserror(errno.ENOTDIR, path)
        return {name: entry.number for name, entry in node.entries.items()}

    def symlink(self, target: str, path: str) -> None:
        """Not a call that landed makes; for tests."""
        directory, name, found = self._locate(path, follow=False)
        assert found is None
        self._enter(directory, name, self.disk.new(stat.S_IFLNK, 0o777, target))

    # Metadata.

    def _change(self, fd: int, change: Callable[[Saved], Saved]) -> None:
        node = self._description(fd).node
        node.do(Meta(change))
        self.disk.touch(node, data=False)

    @system_call
    def fchmod(self, fd: int, mode: int) -> None:
        self._change(fd, lambda saved: saved._replace(mode=mode))

    @system_call
    def fchown(self, fd: int, uid: int, gid: int) -> None:
        def change(saved: Saved) -> Saved:
            return saved._replace(uid=uid if uid != -1 else saved.uid, gid=gid if gid != -1 else saved.gid)

        self._change(fd, change)

    @system_call
    def listxattr(self, fd: int) -> list[str]:
        return list(self._xattrs(fd))

    @system_call
    def getxattr(self, fd: int, name: str) -> bytes:
        try:
            return self._xattrs(fd)[name]
        except KeyError:
            raise oserror(errno.ENODATA, name) from None

    @system_call
    def setxattr(self, fd: int, name: str, value: bytes) -> None:
        self._xattrs(fd)
        self._change(fd, lambda saved: saved._replace(xattrs=_without(name, saved.xattrs) | {(name, value)}))

    @system_call
    def removexattr(self, fd: int, name: str) -> None:
        if name not in self._xattrs(fd):
            raise oserror(errno.ENODATA, name)
        self._change(fd, lambda saved: saved._replace(xattrs=_without(name, saved.xattrs)))

    def _xattrs(self, fd: int) -> dict[str, bytes]:
        node = self._description(fd).node
        if not self.disk.xattrs:
            raise oserror(errno.ENOTSUP)
        return dict(node.now.xattrs)

    # Locks.

    @system_call
    def flock(self, fd: int, *, blocking: bool, shared: bool = False) -> None:
        description = self._description(fd)
        node = description.node
        while node.locked_by not in {None, description} or (not shared and node.shared_by - {description}):
            if not blocking:
                raise oserror(errno.EAGAIN)
            self.disk.unlocked.wait()
        if shared:
            node.shared_by.add(description)
        else:
            node.locked_by = description

    @system_call
    def funlock(self, fd: int) -> None:
        self._unlock(self._description(fd))

    def _unlock(self, description: _Description) -> None:
        if description.node.locked_by is description or description in description.node.shared_by:
            description.node.locked_by = None
            description.node.shared_by.discard(description)
            self.disk.unlocked.notify_all()


def _without(name: str, xattrs: frozenset[tuple[str, bytes]]) -> frozenset[tuple[str, bytes]]:
    return frozenset(each for each in xattrs if each[0] != name)


def _status(node: Node) -> os.stat_result:
    links = node.links + 1 if node.kind == stat.S_IFDIR else node.links
    now, mtime, ctime = node.now, node.mtime, node.ctime
    size = len(now.data) if node.kind != stat.S_IFLNK else len(node.target)
    fields = (node.kind | now.mode, node.number, 1, links, now.uid, now.gid, size, 0, mtime // 10**9, ctime // 10**9)
    extra = {"st_mtime": mtime / 1e9, "st_ctime": ctime / 1e9, "st_mtime_ns": mtime, "st_ctime_ns": ctime}
    return os.stat_result(fields, extra)
