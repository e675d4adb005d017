"""The calls of a `ModelFS`: each is counted, recorded and reported, and a test can let any of them fail."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from model_disk import Node
    from model_fs import ModelFS

F = TypeVar("F", bound=Callable[..., Any])


class Fault:
    """What to do with one call instead of, or on top of, carrying it out.

    Args:
        error: raised in the caller.
        after: carry the call out first (a lost reply; a signal that arrives just as the call returns).
        short: for writes: write this many bytes and raise nothing.
    """

    __slots__ = ("after", "error", "short")

    def __init__(self, error: BaseException | None = None, *, after: bool = False, short: int | None = None) -> None:
        self.error = error
        self.after = after
        self.short = short


class Call:
    """One call as it was made.

    Attributes:
        number: counted from 1.
        path: what it is about, or "" when that is an open file.
        node: the open file, or None.
        owed: whether that file had anything to flush.
        lost: whether a failed flush of that file dropped anything that no later flush made good.
        error: what was raised.
    """

    __slots__ = ("error", "lost", "name", "node", "number", "owed", "path")

    def __init__(self, number: int, name: str, path: str, node: Node | None) -> None:
        self.number = number
        self.name = name
        self.path = path
        self.node = node
        self.owed = node is not None and bool(node.pending)
        self.lost = node is not None and bool(node.lost)
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        about = self.path or (f"#{self.node.number}" if self.node else "")
        return f"{self.number}:{self.name}({about})" + (f" -> {self.error!r}" if self.error else "")


def system_call(method: F) -> F:
    """Count and record the call, let a test fail it, and tell the test when it is over."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: ModelFS, *args: Any, **kwargs: Any) -> Any:
        with self.disk.mutex:
            first = args[0]
            if isinstance(first, int):
                entry = self._fds.get(first)
                made = Call(len(self.log) + 1, name, "", entry.node if entry is not None else None)
            else:
                made = Call(len(self.log) + 1, name, first, None)
            self.log.append(made)
            fault = self.fault(made) if self.fault is not None else None
            try:
                if fault is None:
                    return method(self, *args, **kwargs)
                return _faulty(self, method, made, fault, *args, **kwargs)
            except BaseException as error:
                made.error = error
                raise
            finally:
                if self.boundary is not None:
                    self.boundary(made)

    return call  # type: ignore[return-value]


def _faulty(self: ModelFS, method: Callable[..., Any], made: Call, fault: Fault, *args: Any, **kwargs: Any) -> Any:
    if fault.short is not None:
        fd, data, *rest = args
        return method(self, fd, bytes(data)[: fault.short], *rest, **kwargs)
    assert fault.error is not None
    if isinstance(fault.error, OSError) and made.name in {"fsync", "fdatasync"} and made.node is not None:
        made.node.forget()
    # Linux frees the descriptor of a close that fails.
    elif fault.after or made.name == "close":
        with contextlib.suppress(OSError):  # what comes after the call covers what it answered
            method(self, *args, **kwargs)
    raise fault.error
