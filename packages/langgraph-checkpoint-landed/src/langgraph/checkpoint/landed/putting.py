"""A put: serialize at once, then look for what is stored already, and append the rest as one batch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from landed import Full, LockTimeout, Refused, StaleWrite
from landed.process import me
from langgraph.checkpoint.landed.difference import difference
from langgraph.checkpoint.landed.records import INLINE, CheckpointRecord, Fields, Typed, ValueRecord, serialized

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from langgraph.checkpoint.landed.company import Rider
    from langgraph.checkpoint.landed.history import History, Stored

INLINE_TYPES: Final = (str, int, float, bool, type(None))
INLINE_LENGTH: Final = 128
"""Characters of a string that a checkpoint holds itself: a reference takes as much."""
CHAIN: Final = 64
"""Differences between a value and a whole one, at most: so many records a cold read takes."""
WRITER_LENGTH: Final = 60
"""Characters that say who put a checkpoint."""
PATIENCE: Final = 30.0
"""Seconds to try again while others append to the thread in between."""


class Draft:
    """A checkpoint on its way: serialized when the saver was called, since the caller may go on to change it.

    Args:
        parent: the id that it is put on, if any.
        metadata: complete.
        changed: the channels that have a new value.
    """

    def __init__(
        self,
        serde: SerializerProtocol,
        ns: str,
        parent: str | None,
        checkpoint: Mapping[str, Any],
        metadata: Mapping[str, Any],
        changed: Mapping[str, Any],
    ) -> None:
        self.ns = ns
        self.id: str = checkpoint["id"]
        self.parent = str(parent) if parent else None
        self._serde = serde
        self._versions = checkpoint["channel_versions"]
        values: dict[str, Any] = checkpoint["channel_values"]
        inline = {channel: value for channel, value in values.items() if _is_inline(value)}
        self._inline = list(inline)
        self._apart = {channel: value for channel, value in values.items() if channel not in inline}
        self._new: dict[str, Typed] = {
            channel: serialized(serde, value) for channel, value in self._apart.items() if channel in changed
        }
        self._body = serialized(serde, {**checkpoint, "channel_values": inline})
        self._metadata = serialized(serde, dict(metadata))

    def commit(self, history: History, check: Callable[[History], None], aboard: list[Rider]) -> None:
        """Append it to its thread.

        Args:
            check: raises if it must not be put on what is there now.
            aboard: writes that go along; whoever is taken from here is let go when the put has ended.

        Raises:
            StaleWrite: as `check` says. Nothing was written.
            LockTimeout: others appended in between for half a minute. Nothing was written.
            LandedError: as `Journal.append`.
        """
        deadline = time.monotonic() + PATIENCE
        with history.writing:
            while True:
                with history.guard:
                    self._prepare(history)
                    try:
                        check(history)
                    except StaleWrite:
                        history.catch_up(complete=history.complete)
                        check(history)
                    expect = history.seen
                    records = self._records(history)
                riders = [*aboard, *history.company.board()]
                aboard.clear()
                try:
                    history.append([*records, *(rider.record for rider in riders)], expect)
                except (Full, Refused):
                    if not riders:
                        raise
                    history.company.turn_away(riders)  # it may have room alone
                except StaleWrite:
                    history.company.turn_away(riders)
                    if time.monotonic() > deadline:
                        raise LockTimeout(
                            f"others appended in between for {PATIENCE:.0f} s", path=history.journal.path, step="put"
                        ) from None
                    with history.guard:
                        history.catch_up(complete=history.complete)
                except BaseException:
                    history.company.turn_away(riders)
                    raise
                else:
                    history.company.leave(riders)
                    return

    def _prepare(self, history: History) -> None:
        """Read the thread, as far as the put needs it: its end will do for a put on the latest checkpoint."""
        if history.seen == 0:
            history.catch_up(complete=bool(self.ns))
        if not history.complete and (self.ns or (self.parent and history.find("", self.parent) is None)):
            history.catch_up()

    def _records(self, history: History) -> list[Fields]:
        parent = history.find(self.ns, self.parent) if self.parent else None
        records: list[Fields] = []
        refs = dict.fromkeys(self._inline, INLINE)
        new: list[str] = []
        places: dict[int, list[int]] = {}
        for channel, value in self._apart.items():
            new_value = self._new.get(channel)
            ref = self._stored(history, parent, channel) if new_value is None else None
            if ref is None:
                records.append(self._value(history, parent, channel, new_value or serialized(self._serde, value)))
                new.append(channel)
            else:
                refs[channel] = ref
                places[ref] = list(history.values[ref].place)
        refs |= {channel: number - len(new) for number, channel in enumerate(new)}
        latest = history.find(self.ns, None)
        records.append(
            CheckpointRecord(
                self.ns,
                self.id,
                self.parent,
                refs,
                places,
                {write.sequence: list(write.place) for write in history.writes_from(self.ns, self.id)},
                latest is None or latest.id < self.id,
                *self._body,
                *self._metadata,
                *stamp(),
            )
        )
        return records

    def _stored(self, history: History, parent: Stored | None, channel: str) -> int | None:
        """Where the value of an unchanged channel is, if it is stored."""
        version = self._versions.get(channel)
        if version is None:
            return None  # nothing says that it is unchanged
        ref = parent.refs.get(channel) if parent is not None else None
        if ref and history.values[ref].version == version:
            return ref
        namespace = history.namespaces.get(self.ns)
        return namespace.versions.get((channel, version)) if namespace is not None else None

    def _value(self, history: History, parent: Stored | None, channel: str, value: Typed) -> ValueRecord:
        """A value as its difference from the parent's, if that is shorter."""
        kind, body = value
        version = self._versions.get(channel)
        base = parent.refs.get(channel) if parent is not None else None
        if base and "+" not in kind:  # of ciphertext nothing is common
            before = history.values[base]
            if before.depth < CHAIN:
                parts = difference(history.value(base)[1], body)
                if parts is not None:
                    return ValueRecord(channel, version, kind, before.depth + 1, base, list(before.place), parts)
        return ValueRecord(channel, version, kind, 0, 0, [], body)


def stamp() -> tuple[float, str]:
    """When a checkpoint is put, and by whom: as it is put now, by this process."""
    return round(time.time(), 3), str(me())[:WRITER_LENGTH]


def _is_inline(value: object) -> bool:
    return type(value) in INLINE_TYPES and (type(value) is not str or len(value) <= INLINE_LENGTH)
