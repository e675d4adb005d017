"""`LandedSaver`: LangGraph's checkpoints on journals. One class, sync and async."""

from __future__ import annotations

import random
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)

from landed import Corrupt, Journals, Refused
from landed.aio import Errand, finish, finish_short
from landed.engines import is_address
from langgraph.checkpoint.landed import ancestry, configs, conflicts, retention
from langgraph.checkpoint.landed.conflicts import Head, Memory
from langgraph.checkpoint.landed.listing import matching
from langgraph.checkpoint.landed.locking import ThreadLock
from langgraph.checkpoint.landed.putting import Draft
from langgraph.checkpoint.landed.records import WritesRecord, serialized
from langgraph.checkpoint.landed.threads import Threads, seconds_of

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from datetime import timedelta

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import DeltaChannelHistory  # since 4.1
    from langgraph.checkpoint.serde.base import SerializerProtocol

    from langgraph.checkpoint.landed.company import Company
    from langgraph.checkpoint.landed.history import History, Raw
    from langgraph.checkpoint.landed.records import Typed

T = TypeVar("T")

RUN_TIMEOUT: Final = 600.0
"""Seconds to wait for a run under way on the same thread, unless told otherwise."""
LISTED_AT_ONCE: Final = 16
"""Checkpoints that an asynchronous list reads in one go of its thread."""


class LandedSaver(BaseCheckpointSaver[str]):
    """Checkpoints in a directory, shared by any number of threads, tasks and processes.

    What `put` and `put_writes` have returned from is on the disk, flushed and verified. Of two runs that built on the
    same head, one lands and the other raises.

        graph = builder.compile(checkpointer=LandedSaver("./checkpoints"))

    Args:
        path: the directory, created when missing; or an address that `landed.Journals` takes, ``postgresql://...``.
        serde: serializer of values, checkpoints and metadata; LangGraph's own when None.
        on_conflict: what becomes of a put by a run whose head another writer has advanced: ``"raise"`` `StaleWrite`,
            or ``"fork"`` the thread as other savers do.
        max_bytes: growth limit of each thread in bytes; a put that needs more raises `Full`. None for none.
        ttl: seconds or timedelta after its last put at which a thread is no more; it is removed when it is next looked
            at, or by `delete_expired`. None for never.

    Raises:
        ValueError, Refused: an argument is none of these, or ":memory:"; or it is the directory of one journal.
        NotLanded: the directory cannot be made or read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        serde: SerializerProtocol | None = None,
        on_conflict: Literal["raise", "fork"] = "raise",
        max_bytes: int | None = None,
        ttl: float | timedelta | None = None,
    ) -> None:
        super().__init__(serde=serde)
        if on_conflict not in {"raise", "fork"}:
            raise ValueError(f'on_conflict is "raise" or "fork", not {on_conflict!r}')
        if str(path) == ":memory:":  # another saver's word: a directory of that name would keep what nobody wants kept
            raise Refused("it stands for memory alone", path=str(path), step="open", hint="Use InMemorySaver for that.")
        # LangGraph copies savers (copy.copy) and gives the copy another serde: all that changes is in these two.
        seconds = seconds_of(ttl)
        self._threads = Threads(Journals(path, max_bytes=max_bytes), seconds)
        # What is taken out is first recorded as dropped: a thread that is full has to have room for that.
        self._unlimited = self._threads if max_bytes is None else Threads(Journals(path), seconds)
        self._memory = Memory()
        self._fork = on_conflict == "fork"
        # A server takes longer to answer than a disk to flush, and many at once no longer than one.
        self._short = not is_address(path)
        self._finish = finish_short if self._short else finish

    @classmethod
    def from_conn_string(cls, conn_string: str, **options: Any) -> LandedSaver:  # noqa: ANN401 - those of the class
        """As in the official savers; the saver is its own context manager, sync and async.

        Args:
            conn_string: the directory, or the address.
            options: as for the class.
        """
        return cls(conn_string, **options)

    def setup(self) -> None:
        """Does nothing; other savers need it."""

    def close(self) -> None:
        """Give back descriptors. What was acknowledged needs no closing."""
        self._threads.journals.close()
        self._unlimited.journals.close()

    def __enter__(self) -> LandedSaver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> LandedSaver:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    # Reading.

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` addresses, or the latest of its thread and namespace; None when there is none.

        Raises:
            Corrupt: the thread is damaged.
            NotLanded: it cannot be read.
        """
        thread, ns = configs.thread_of(config), configs.namespace_of(config) or ""
        wanted = get_checkpoint_id(config)

        def look(history: History) -> Raw | None:
            stored = history.find(ns, wanted)
            return None if stored is None else history.raw(ns, stored)

        raw = self._threads.look(thread, look, None, complete=ns != "")
        if raw is None and wanted and ns == "":
            raw = self._threads.look(thread, look, None)
        if raw is not None:
            self._memory.found(thread, ns, raw.id)
        if ns == "":
            if wanted:
                self._memory.addressed(thread, wanted)
            else:
                self._memory.read_head(thread, empty=raw is None)
        return None if raw is None else self._tuple(thread, ns, raw, head=not wanted and ns == "")

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first: of a namespace, a thread, or, when `config` is None, of all threads.

        Nothing is locked while the caller has a checkpoint in hand: it may put, and sees the list as it was.

        Args:
            filter: keys and values that the metadata must have.
            before: only those whose id sorts before this one's.
            limit: how many at most.

        Raises:
            Corrupt: a thread is damaged.
            NotLanded: it cannot be read.
        """
        scope = (
            (None, None, None)
            if config is None
            else (configs.thread_of(config), configs.namespace_of(config), get_checkpoint_id(config))
        )
        last = get_checkpoint_id(before) if before else None
        loads = self.serde.loads_typed
        found = (
            self._tuple(thread, ns, raw)
            for thread, ns, raw in matching(self._threads, loads, scope, last, filter or {})
        )
        return found if limit is None else islice(found, max(0, limit))

    def _tuple(self, thread: str, ns: str, raw: Raw, *, head: bool = False) -> CheckpointTuple:
        loads = self.serde.loads_typed
        checkpoint: Checkpoint = loads(raw.checkpoint)
        try:
            values = checkpoint["channel_values"]
        except (TypeError, KeyError) as error:
            raise Corrupt(f"checkpoint {raw.id} of thread {thread!r} is none: {error!r}", step="read") from error
        for channel, typed in raw.values.items():
            values[channel] = loads(typed)
        return CheckpointTuple(
            configs.naming(thread, ns, Head(raw.id) if head else raw.id),
            checkpoint,
            loads(raw.metadata),
            configs.naming(thread, ns, raw.parent) if raw.parent else None,
            [(task, channel, loads(typed)) for task, channel, typed in raw.writes],
        )

    # Writing.

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint on the one that `config` names.

        Raises:
            StaleWrite: this run built on a head that another writer has advanced. Nothing was written.
            NotLanded: nothing was written.
            OutcomeUnknown: the flush failed; the checkpoint may or may not be there.
            Corrupt: the thread is damaged. Nothing was written.
        """
        return self._put(config, checkpoint, metadata, new_versions)()

    def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
        *,
        in_loop: bool = False,
    ) -> Callable[[], RunnableConfig]:
        """Serialize now, in a loop take along the writes that wait; the answer does the rest, in any thread."""
        thread, ns = configs.thread_of(config), configs.namespace_of(config) or ""
        parent = configs.given(config).get("checkpoint_id") or None
        complete = get_checkpoint_metadata(config, metadata)
        try:
            draft = Draft(self.serde, ns, parent, checkpoint, complete, new_versions)
        except BaseException as error:
            self._memory.failed(thread, ns, checkpoint["id"], error)
            raise
        follows = ns == "" and complete.get("source") != "fork" and self._memory.follows_head(thread, parent)
        root = None if ns == "" or self._fork else self._memory.own_root(thread, config)

        def check(history: History) -> None:
            if follows:
                conflicts.check(history, thread, parent, draft.id, fork=self._fork)
            elif root is not None:
                conflicts.check_root(history, thread, root)

        company = self._threads.company(thread)
        aboard = company.board() if in_loop else []

        def commit() -> RunnableConfig:
            try:
                self._memory.check_parent(thread, ns, parent, self._threads.journals.path)
                self._threads.change(thread, lambda history: draft.commit(history, check, aboard), create=True)
            except BaseException as error:
                company.turn_away(aboard)
                self._memory.failed(thread, ns, draft.id, error)
                raise
            if ns == "":
                self._memory.put(thread, draft.id, parent)
            return configs.naming(thread, ns, draft.id)

        return commit

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote, all of it or nothing, before or after its checkpoint.

        Raises:
            StaleWrite: the thread was deleted under this run. Nothing was written.
            NotLanded: nothing was written.
            OutcomeUnknown: the flush failed; the writes may or may not be there.
            Corrupt: the thread is damaged. Nothing was written.
        """
        company, record, store = self._put_writes(config, writes, task_id, task_path)
        if record.writes and not company.ride(record):
            store()

    def _put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> tuple[Company, WritesRecord, Callable[[], None]]:
        """Serialize now; the answer: who may take the writes along, the writes, and what stores them, in any thread."""
        thread, ns = configs.thread_of(config), configs.namespace_of(config) or ""
        id = configs.given(config).get("checkpoint_id")
        if not id:
            raise Refused("put_writes without a checkpoint_id", path=self._threads.journals.path, step="argument")
        record = WritesRecord(
            ns,
            str(id),
            task_id,
            task_path,
            [
                [WRITES_IDX_MAP.get(channel, index), channel, *serialized(self.serde, value)]
                for index, (channel, value) in enumerate(writes)
            ],
        )
        known = self._memory.follows_head(thread, id) if ns == "" else self._memory.own_root(thread, config) is not None

        def append(history: History) -> None:
            if known and history.seen == 0:
                with history.guard:
                    history.catch_up(complete=False)
                    if not history.namespaces:
                        raise conflicts.stale(history, thread, id, None)
            history.company.set_out()
            try:
                history.append([record], None)
            finally:
                history.company.arrive()

        def store() -> None:
            self._threads.change(thread, append, create=True)

        return self._threads.company(thread), record, store

    def delete_thread(self, thread_id: str) -> None:
        """Remove a thread with all its namespaces; a run that is under way on it raises at its next put.

        Raises:
            NotLanded: nothing was changed.
            OutcomeUnknown: it is gone, and may be back after a crash.
        """
        self._threads.remove(str(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that these runs put, with their writes, in every thread. Reads all metadata.

        Raises:
            NotLanded, OutcomeUnknown, Corrupt: of one thread; those before it are done. Of that one, `state` says
                whether its checkpoints are dropped.
        """
        runs = configs.ids_of("run_ids", run_ids)
        if runs:
            choose = partial(retention.of_runs, loads=self.serde.loads_typed, runs=runs)
            self._threads.each(lambda thread: retention.take_out(self._unlimited, thread, choose))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes of a thread, with their ids, as one batch.

        Raises:
            NotLanded: nothing was written.
            OutcomeUnknown: the flush failed; the copy may or may not be there.
        """
        retention.copy(self._threads, str(source_thread_id), str(target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Take out of threads what is not needed to go on, and give the space back.

        Args:
            strategy: ``"keep_latest"`` keeps the latest checkpoint of each namespace with its pending writes, and the
                ancestors that a DeltaChannel is rebuilt from; ``"delete"`` keeps nothing.

        Raises:
            TypeError: `thread_ids` is a string.
            ValueError: there is no such strategy.
            NotLanded, OutcomeUnknown, Corrupt: of one thread; those before it are done. Of that one, `state` says
                whether its checkpoints are dropped.
        """
        threads = configs.ids_of("thread_ids", thread_ids)
        if strategy not in {"keep_latest", "delete"}:
            raise ValueError(f'strategy is "keep_latest" or "delete", not {strategy!r}')
        for thread in threads:
            if strategy == "delete":
                self.delete_thread(thread)
            else:
                choose = partial(retention.superseded, loads=self.serde.loads_typed)
                retention.take_out(self._unlimited, thread, choose)

    def delete_expired(self) -> None:
        """Remove every thread that nobody has put to for the saver's `ttl`; a thread put to meanwhile stays.

        Raises:
            NotLanded, Corrupt: of one thread; those before it are done.
        """
        self._threads.each(lambda thread: self._threads.look(thread, lambda _: None, None, complete=False))

    def thread_lock(self, thread_id: str, *, timeout: float = RUN_TIMEOUT) -> ThreadLock:
        """A lock for whole runs on a thread, for ``with`` and ``async with``; puts neither take it nor wait for it.

        Args:
            timeout: seconds to wait for it at most.

        Raises:
            LockTimeout: on entering: another run kept it for so long; names the process.
            Refused: on entering: this thread or task has it already.
        """
        return ThreadLock(self._threads.journals.lock(str(thread_id)), timeout)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What each channel is rebuilt from: the writes of the checkpoint's ancestors, and the value to start from.

        Raises:
            Corrupt: the thread is damaged.
            NotLanded: it cannot be read.
        """
        thread, ns, wanted = configs.thread_of(config), configs.namespace_of(config) or "", get_checkpoint_id(config)

        def look(history: History) -> dict[str, tuple[list[tuple[str, Typed]], Typed | None, bool]]:
            stored = history.find(ns, wanted)
            traced = ancestry.trace(history, ns, stored, channels) if stored is not None else {}
            return {channel: (each.writes, *history.seed(each.seed)) for channel, each in traced.items()}

        nothing: dict[str, tuple[list[tuple[str, Typed]], Typed | None, bool]] = {}
        found = self._threads.look(thread, look, nothing)
        loads = self.serde.loads_typed
        rebuilt: dict[str, DeltaChannelHistory] = {}
        for channel in channels:
            writes, seed, inline = found.get(channel, ([], None, False))
            rebuilt[channel] = {"writes": [(task, channel, loads(typed)) for task, typed in writes]}
            if seed is not None:
                value = loads(seed)
                rebuilt[channel]["seed"] = value["channel_values"][channel] if inline else value
        return rebuilt

    def get_next_version(self, current: str | float | None, channel: None) -> str:
        """A version that no other branch of the history has: the next number, and a random one."""
        del channel
        number = 0 if current is None else int(str(current).split(".")[0])
        return f"{number + 1:032}.{random.random():016}"  # noqa: S311 - tells branches apart, keeps no secret

    # The same for asyncio: serialized in the loop, before the caller can change anything, and stored in a thread.

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`."""
        return await self._finish(partial(self.get_tuple, config))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        found = self.list(config, filter=filter, before=before, limit=limit)
        while some := await finish(lambda: [*islice(found, LISTED_AT_ONCE)]):
            for each in some:
                yield each

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `put`; a cancellation meanwhile goes on when it has ended, with its `landed.aio.outcome`."""
        commit = self._put(config, checkpoint, metadata, new_versions, in_loop=True)
        company = self._threads.company(configs.thread_of(config))
        stored: RunnableConfig = await company.put(Errand(commit, short=self._short))
        return stored

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `put_writes`; a cancellation meanwhile goes on when it has ended, with its `landed.aio.outcome`."""
        company, record, store = self._put_writes(config, writes, task_id, task_path)
        if not record.writes:
            return
        errand = Errand(store, short=self._short)
        company.ride_in_loop(record, errand)
        await errand.end()

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        await finish(partial(self.delete_thread, thread_id))

    async def adelete_expired(self) -> None:
        """As `delete_expired`."""
        await finish(self.delete_expired)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        await finish(partial(self.delete_for_runs, run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        await finish(partial(self.copy_thread, source_thread_id, target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `prune`."""
        await finish(partial(self.prune, thread_ids, strategy=strategy))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `get_delta_channel_history`."""
        return await finish(partial(self.get_delta_channel_history, config=config, channels=channels))
