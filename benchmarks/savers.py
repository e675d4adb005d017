"""The checkpoint savers that are compared, each as its users open it, and the little that is done with them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any, ClassVar

from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from langgraph.checkpoint.landed import LandedSaver

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import Checkpoint

KIB = 1024


class Kind:
    """One saver, open on a directory of its own.

    Attributes:
        name: in tables.
        asynchronous: whether graphs on it run by ``ainvoke``.
        package: the module it needs, "" for none.
    """

    name: ClassVar[str]
    asynchronous: ClassVar[bool] = False
    package: ClassVar[str] = ""

    def __init__(self, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        self.directory = directory
        self.stack = contextlib.ExitStack()
        self.saver: BaseCheckpointSaver = self.open()

    def open(self) -> BaseCheckpointSaver:
        raise NotImplementedError

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in this saver's loop."""
        asyncio.run(work)

    def settle(self) -> None:
        """Flush what a call left for the kernel to write."""

    def close(self) -> None:
        self.stack.close()

    def bytes(self) -> int:
        """What its directory takes of the disk."""
        return sum(
            os.stat(os.path.join(above, name)).st_blocks * 512
            for above, _, names in os.walk(self.directory)
            for name in names
        )


class Memory(Kind):
    name = "InMemorySaver"

    def open(self) -> BaseCheckpointSaver:
        return InMemorySaver()


class Sqlite(Kind):
    name = "SqliteSaver"

    def open(self) -> BaseCheckpointSaver:
        return self.stack.enter_context(
            SqliteSaver.from_conn_string(os.path.join(self.directory, "checkpoints.sqlite"))
        )


class AsyncSqlite(Kind):
    name = "AsyncSqliteSaver"
    asynchronous = True

    def open(self) -> BaseCheckpointSaver:
        self._loop = asyncio.new_event_loop()
        self._opened = AsyncSqliteSaver.from_conn_string(os.path.join(self.directory, "checkpoints.sqlite"))
        return self._loop.run_until_complete(self._opened.__aenter__())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self._loop.run_until_complete(work)

    def close(self) -> None:
        self._loop.run_until_complete(self._opened.__aexit__(None, None, None))
        self._loop.close()


class Landed(Kind):
    name = "LandedSaver"

    def open(self) -> BaseCheckpointSaver:
        return self.stack.enter_context(LandedSaver(self.directory))


class AsyncLanded(Landed):
    name = "LandedSaver, async"
    asynchronous = True

    def open(self) -> BaseCheckpointSaver:
        self._loop = asyncio.new_event_loop()
        return super().open()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self._loop.run_until_complete(work)

    def close(self) -> None:
        super().close()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


class ObjectStorage(Kind):
    """Files without a flush: what it acknowledged, a power cut takes back."""

    name = "objectstorage, unflushed"
    package = "langgraph_checkpoint_objectstorage"

    def open(self) -> BaseCheckpointSaver:
        from langgraph_checkpoint_objectstorage import ObjectStorageSaver

        opened = ObjectStorageSaver.from_conn_string(f"file://{self.directory}")
        return self.stack.enter_context(opened) if hasattr(opened, "__enter__") else opened

    def settle(self) -> None:
        os.sync()


KINDS: tuple[type[Kind], ...] = (Memory, Sqlite, AsyncSqlite, ObjectStorage, Landed, AsyncLanded)
SYNC: tuple[type[Kind], ...] = tuple(kind for kind in KINDS if not kind.asynchronous)


def installed(kinds: tuple[type[Kind], ...]) -> tuple[type[Kind], ...]:
    return tuple(kind for kind in kinds if not kind.package or importlib.util.find_spec(kind.package) is not None)


def thread(name: str) -> RunnableConfig:
    return {"configurable": {"thread_id": name, "checkpoint_ns": ""}}


class Thread:
    """One thread that grows by checkpoints with one channel of `size` bytes.

    Args:
        new: how many of them, at the end, are others in each; all when None. They are random: nothing in them repeats.
    """

    def __init__(self, saver: BaseCheckpointSaver, name: str, size: int, new: int | None = None) -> None:
        self._saver = saver
        self._new = size if new is None else new
        self._kept = os.urandom(size - self._new)
        self._step = 0
        self.config = thread(name)

    def next(self) -> tuple[RunnableConfig, Checkpoint, Any, Any]:
        """The arguments of its next put; made outside the clock."""
        self._step += 1
        checkpoint = empty_checkpoint()
        version = f"{self._step:032}.{0.5:016}"
        checkpoint["channel_values"] = {"state": self._kept + os.urandom(self._new)}
        checkpoint["channel_versions"] = {"state": version}
        return self.config, checkpoint, {"source": "loop", "step": self._step, "parents": {}}, {"state": version}

    def put(self, arguments: tuple[RunnableConfig, Checkpoint, Any, Any]) -> None:
        self.config = self._saver.put(*arguments)

    def put_writes(self) -> None:
        self._saver.put_writes(self.config, [("state", b"x" * 100), ("branch:to:node", None)], f"task-{self._step}")

    async def aput(self, arguments: tuple[RunnableConfig, Checkpoint, Any, Any]) -> None:
        self.config = await self._saver.aput(*arguments)

    async def aput_writes(self) -> None:
        await self._saver.aput_writes(
            self.config, [("state", b"x" * 100), ("branch:to:node", None)], f"task-{self._step}"
        )
