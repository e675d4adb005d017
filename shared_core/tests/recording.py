"""The real file system with a record of every call, and a way to step in before or after one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from landed._fs import FileOps

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

OPERATIONS = [name for name in vars(FileOps) if not name.startswith("_")]


class Call(NamedTuple):
    """One call: the operation and the path it was about, also where the operation was given a descriptor."""

    name: str
    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Rule(NamedTuple):
    """What to do before or after calls to an operation on paths that end in `ending`; once, unless `always`."""

    when: str
    name: str
    ending: str
    action: Callable[[Call], object]
    always: bool


class Recording(FileOps):
    """Does what FileOps does and remembers it.

    Attributes:
        calls: every call, in order, also those that failed.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._opened: dict[int, str] = {}
        self._rules: list[Rule] = []

    def before(self, name: str, action: Callable[[Call], object], *, on: str = "", always: bool = False) -> None:
        """Run `action` before the next such call; what it raises is raised instead of calling."""
        self._rules.append(Rule("before", name, on, action, always))

    def after(self, name: str, action: Callable[[Call], object], *, on: str = "", always: bool = False) -> None:
        """Run `action` after the next such call; what it raises is raised although the call succeeded."""
        self._rules.append(Rule("after", name, on, action, always))

    def named(self, name: str, *, on: str = "") -> list[Call]:
        return [call for call in self.calls if call.name == name and call.path.endswith(on)]

    def position(self, name: str, *, on: str = "") -> int:
        """When the only such call happened, as an index into `calls`."""
        (call,) = self.named(name, on=on)
        return next(index for index, each in enumerate(self.calls) if each is call)

    def forget(self) -> None:
        self.calls.clear()

    def perform(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = Call(name, self._path_of(args[0], kwargs.get("dir_fd")), args, kwargs)
        self.calls.append(call)
        self._apply("before", call)
        answer = getattr(FileOps, name)(self, *args, **kwargs)
        if name == "open":
            self._opened[answer] = call.path
        self._apply("after", call)
        return answer

    def _path_of(self, subject: str | int, dir_fd: int | None) -> str:
        if isinstance(subject, int):
            return self._opened.get(subject) or _path_behind(subject)  # another object may have opened it
        return subject if dir_fd is None else os.path.join(self._opened[dir_fd], subject)

    def _apply(self, when: str, call: Call) -> None:
        for rule in list(self._rules):
            if (rule.when, rule.name) == (when, call.name) and call.path.endswith(rule.ending):
                if not rule.always:
                    self._rules.remove(rule)
                rule.action(call)


def _path_behind(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def _recorded(name: str) -> Callable[..., Any]:
    def operation(self: Recording, *args: Any, **kwargs: Any) -> Any:
        return self.perform(name, args, kwargs)

    return operation


for _name in OPERATIONS:
    setattr(Recording, _name, _recorded(_name))


def disown(fs: FileOps, monkeypatch: pytest.MonkeyPatch, *endings: str) -> None:
    """Let what has a path with one of these endings be user 4321's, who is nobody that runs this."""
    stat = fs.stat

    def changed(path: str, **kwargs: Any) -> os.stat_result:
        status = stat(path, **kwargs)
        if not path.endswith(endings):
            return status
        return os.stat_result((*status[:4], 4321, *status[5:10]))

    monkeypatch.setattr(fs, "stat", changed)


def failing(number: int) -> Callable[[Call], None]:
    """An action that fails the call as the system would, with this errno."""

    def fail(call: Call) -> None:
        raise OSError(number, os.strerror(number))

    return fail
