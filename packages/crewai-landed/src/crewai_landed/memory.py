"""`LandedMemory`: CrewAI's memory, of which nothing that it has accepted is lost in silence."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from crewai.memory.unified_memory import Memory
from pydantic import BaseModel, PrivateAttr

from crewai_landed.ledger import Batch, Counts, Ledger, ended
from crewai_landed.storage import LandedStorage
from landed import aio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from crewai.memory.types import MemoryMatch, MemoryRecord

_batch: ContextVar[Batch | None] = ContextVar("batch", default=None)
"""What is encoded in this context."""
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether draining only waits: who recalls may swallow what it raises, and then nobody would hear of it."""


@contextmanager
def _only_waiting() -> Iterator[None]:
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


class LandedMemory(Memory):
    """CrewAI's `Memory`, with the same arguments; its storage may be the `spec` of a `LandedStorage` as well.

    `remember_many` stores before it returns, or raises `NotStored`. CrewAI's agents swallow what it raises, so it
    stays booked: `drain_writes` raises it too, and so does the kickoff of a crew or a flow, which ends by draining.
    What nobody has drained when the interpreter ends is written to stderr.

    Attributes:
        background: store in the background, as CrewAI does, which needs a program that drains before it ends: crews and
            flows do, agents alone do not.
    """

    background: bool = False
    _ledger: Ledger = PrivateAttr(default_factory=Ledger)

    if not issubclass(Memory, BaseModel):  # crewai 1.10: nothing makes fields of what stands above

        def __init__(self, *args: Any, background: bool = False, **kwargs: Any) -> None:
            self.background = background
            self._ledger = Ledger()
            if isinstance(spec := kwargs.get("storage"), str):
                kwargs["storage"] = LandedStorage.from_spec(spec) or spec
            super().__init__(*args, **kwargs)

    def model_post_init(self, context: Any, /) -> None:
        if isinstance(self.storage, str):
            self.storage = LandedStorage.from_spec(self.storage) or self.storage
        super().model_post_init(context)

    @property
    def counts(self) -> Counts:
        """What has become of what `remember_many` was given, up to now."""
        return self._ledger.counts

    def drain_writes(self) -> None:
        """Wait until everything that was accepted is stored.

        Raises:
            NotStored: something is not, and this has not been raised here yet.
        """
        with self._pending_lock:
            pending = list(self._pending_saves)
        for future in pending:
            ended(future)
        self._ledger.wait()
        if not _quiet.get():
            self._ledger.raise_failures()

    def recall(self, *args: Any, **kwargs: Any) -> list[MemoryMatch]:
        """As in CrewAI: what was accepted before is waited for. A failure of that is left to `drain_writes`."""
        with _only_waiting():
            return super().recall(*args, **kwargs)

    def reset(self, scope: str | None = None) -> None:
        """As in CrewAI: delete everything in a scope; a failure to store before is left to `drain_writes`."""
        with _only_waiting():
            super().reset(scope)

    def reset_all(self) -> None:
        """Delete everything, whatever the root scope; a failure to store before is left to `drain_writes`."""
        with _only_waiting():
            if hasattr(Memory, "reset_all"):
                super().reset_all()
            else:  # before crewai 1.15
                self.drain_writes()
                self._storage.reset()

    # Every save goes through `_submit_save`; those of `remember_many` are booked.

    def _submit_save(self, fn: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        if fn != self._background_encode_batch:
            return super()._submit_save(fn, *args, **kwargs)
        batch = self._ledger.accept(args[0])
        future = batch.future = super()._submit_save(self._booked, batch, *args, **kwargs)
        if not self.background:
            ended(future)
            self._ledger.settle(batch)
            if (failure := batch.failure()) is not None:
                raise failure
        return future

    def _booked(self, batch: Batch, *args: Any, **kwargs: Any) -> list[MemoryRecord]:
        token = _batch.set(batch)
        try:
            # While the interpreter ends, it returns as if nothing had been wrong; the batch tells.
            return self._background_encode_batch(*args, **kwargs)
        finally:
            _batch.reset(token)
            self._ledger.settle(batch)

    def _encode_batch(
        self,
        contents: list[str],
        scope: str | None = None,
        categories: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        importance: float | None = None,
        source: str | None = None,
        private: bool = False,  # noqa: FBT001, FBT002 - CrewAI passes them by position
        root_scope: str | None = None,
    ) -> list[MemoryRecord]:
        """CrewAI's encoding, and then a look at what became of each text."""
        from crewai.memory.encoding_flow import EncodingFlow

        given = {
            "scope": scope,
            "categories": categories,
            "metadata": metadata,
            "importance": importance,
            "source": source,
            "private": private,
            "root_scope": root_scope,
        }
        batch = _batch.get() or Batch(contents)
        try:
            flow = EncodingFlow(storage=self._storage, llm=self._llm, embedder=self._embedder, config=self._config)
            flow.kickoff(inputs={"items": [{"content": text, **given} for text in contents]})
        except BaseException as error:
            batch.cause = error
            raise
        items = flow.state.items
        batch.duplicates = sum(item.dropped for item in items)
        batch.lost = [item.content for item in items if not item.dropped and item.result_record is None]
        batch.lost += contents[len(items) :]
        if (failure := batch.failure()) is not None:
            raise failure
        return [item.result_record for item in items if item.result_record is not None and not item.dropped]

    async def aremember_many(self, *args: Any, **kwargs: Any) -> list[MemoryRecord]:
        """As `remember_many`, in a thread."""
        return await aio.finish(partial(self.remember_many, *args, **kwargs))
