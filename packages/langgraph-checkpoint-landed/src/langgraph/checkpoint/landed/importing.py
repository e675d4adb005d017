"""Threads of a SqliteSaver's database, copied as they are: no value is made into an object, so no class is needed.

What the database holds of a checkpoint is msgpack, in which objects are extensions. They stay extensions here, bytes
that nobody looks into, and LandedSaver stores them so. A program that reads them finds what it would have found before.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ormsgpack
from langgraph.checkpoint.base import WRITES_IDX_MAP

from landed import Corrupt, Refused, VerifyFailed
from langgraph.checkpoint.landed.configs import given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langgraph.checkpoint.base import CheckpointTuple

    from langgraph.checkpoint.landed.records import Typed
    from langgraph.checkpoint.landed.saver import LandedSaver

OPTION: Final = ormsgpack.OPT_NON_STR_KEYS
PACKED: Final = "msgpack"
ENCRYPTED: Final = "Copy it in a program that has the key: list the threads of one saver and put them into the other."
NAME_IT: Final = "Name the SqliteSaver's database."
COPY_IT: Final = "Stop what writes to it; if you may not write to its directory, copy it: SQLite makes files beside it."
DAMAGED: Final = "Threads before it are copied. `sqlite3 DATABASE .recover` may bring back the others."


class Original(NamedTuple):
    """One checkpoint as the database holds it; writes by task and path, each (channel, value)."""

    ns: str
    id: str
    parent: str | None
    checkpoint: Any
    metadata: dict[str, Any]
    writes: list[tuple[str, str, list[tuple[str, Any]]]]


class AsStored:
    """A serializer that leaves extensions closed, and passes on what came with a type of its own."""

    def dumps_typed(self, obj: Any) -> Typed:  # noqa: ANN401 - its contract
        if isinstance(obj, _Closed):
            return obj.kind, obj.data
        return PACKED, ormsgpack.packb(obj, option=OPTION)

    def loads_typed(self, data: Typed) -> Any:  # noqa: ANN401 - its contract
        kind, packed = data
        if kind != PACKED:
            return _Closed(kind, packed)
        return ormsgpack.unpackb(packed, ext_hook=ormsgpack.Ext, option=OPTION)


class _Closed(NamedTuple):
    """A value of another type than msgpack."""

    kind: str
    data: bytes


class Database:
    """The database of a SqliteSaver, opened to be read.

    Args:
        path: the file.

    Raises:
        Refused: it is not there, or not such a database.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path) if path else "''"
        try:
            what = "" if stat.S_ISREG(os.stat(path).st_mode) else "it is no file"
        except OSError as error:
            what = f"it cannot be opened: {error.strerror}"
        if what:
            raise Refused(what, path=self.path, step="open", hint=NAME_IT)
        self._serde = AsStored()
        try:
            self._connection = sqlite3.connect(f"{Path(self.path).as_uri()}?mode=ro", uri=True)
        except sqlite3.Error as error:
            raise Refused(f"it cannot be opened: {error}", path=self.path, step="open", hint=NAME_IT) from error
        try:
            self._connection.execute("BEGIN")  # whoever writes meanwhile changes nothing of what is seen here
            columns = {
                table: {row[1] for row in self._connection.execute(f"PRAGMA table_info({table})")}
                for table in ("checkpoints", "writes")
            }
        except sqlite3.Error as error:
            self._connection.close()
            hint = NAME_IT if "not a database" in str(error) else COPY_IT
            raise Refused(f"it cannot be read: {error}", path=self.path, step="open", hint=hint) from error
        if not {"checkpoint_id", "metadata"} <= columns["checkpoints"]:
            self._connection.close()
            raise Refused("not a database of SqliteSaver", path=self.path, step="open", hint=NAME_IT)
        self._task_path = "task_path" if "task_path" in columns["writes"] else "''"

    def threads(self) -> list[str]:
        """The thread ids, in order."""
        return [row[0] for row in self._rows("SELECT DISTINCT thread_id FROM checkpoints ORDER BY thread_id")]

    def count(self) -> int:
        """How many checkpoints all threads have."""
        return sum(int(number) for (number,) in self._rows("SELECT count(*) FROM checkpoints"))

    def checkpoints(self, thread: str) -> Iterator[Original]:
        """A thread's checkpoints, the oldest first.

        Raises:
            Refused: one is encrypted, or was written in a form that no SqliteSaver of today writes.
            Corrupt: the database cannot be read, or what it has of one makes no sense.
        """
        rows = self._rows(
            "SELECT checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata"
            " FROM checkpoints WHERE thread_id = ? ORDER BY checkpoint_id, checkpoint_ns",
            (thread,),
        )
        for ns, id, parent, kind, packed, metadata in rows:
            if kind != PACKED:
                what = f"checkpoint {id} of thread {thread!r} is stored as {kind!r}, not as {PACKED}"
                raise Refused(what, path=self.path, step="read", hint=ENCRYPTED)
            try:
                checkpoint = self._serde.loads_typed((kind, packed))
                told = json.loads(metadata) if metadata is not None else {}
                writes = self._writes(thread, ns, id)
            except ValueError as error:
                raise self._damaged(f"checkpoint {id} of thread {thread!r} does not read: {error}") from error
            if not isinstance(checkpoint, dict) or "channel_versions" not in checkpoint:
                raise self._damaged(f"checkpoint {id} of thread {thread!r} is none")
            yield Original(ns, id, parent or None, checkpoint, told, writes)

    def _writes(self, thread: str, ns: str, id: str) -> list[tuple[str, str, list[tuple[str, Any]]]]:
        """In the calls that store them alike: of each task the plain ones, then those with an index of their own."""
        rows = self._rows(
            f"SELECT task_id, {self._task_path}, idx, channel, type, value FROM writes"  # noqa: S608 - a column's name
            " WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ? ORDER BY task_id, idx",
            (thread, ns, id),
        )
        calls: dict[tuple[str, str, bool], list[tuple[str, Any]]] = {}
        for task, path, _, channel, kind, value in rows:
            call = (task, path or "", channel in WRITES_IDX_MAP)
            calls.setdefault(call, []).append((channel, self._serde.loads_typed((kind, value))))
        return [(task, path, writes) for (task, path, _), writes in calls.items()]

    def _rows(self, query: str, values: tuple[str, ...] = ()) -> Iterator[Any]:
        try:
            # A cursor itself would be closed with this generator, and where something fails that is after the database.
            yield from iter(self._connection.execute(query, values).fetchone, None)
        except sqlite3.Error as error:
            raise self._damaged(f"it cannot be read: {error}") from error

    def _damaged(self, what: str) -> Corrupt:
        return Corrupt(what, path=self.path, step="read", hint=DAMAGED)

    def close(self) -> None:
        self._connection.close()


def copy_thread(database: Database, saver: LandedSaver, thread: str, watch: Callable[[int], None]) -> tuple[int, int]:
    """Copy one thread, or what an earlier copy left of it, and hold both against each other.

    Args:
        saver: with `AsStored` as its serializer, and ``on_conflict="fork"``.
        watch: told how many checkpoints are done.

    Returns:
        How many checkpoints the thread has, and how many of them were there before.

    Raises:
        Refused: the target's thread is another one: it has a checkpoint that the database lacks, or has differently.
        VerifyFailed: what was copied does not read back as it is in the database.
        NotLanded, OutcomeUnknown: as `LandedSaver.put`; call again.
    """
    there = {_key(found): found for found in saver.list({"configurable": {"thread_id": thread}})}
    source = {(original.ns, original.id) for original in database.checkpoints(thread)}
    foreign = there.keys() - source
    if foreign:
        raise _other(saver, thread, f"has {len(foreign)} checkpoints that the database lacks")
    for done, original in enumerate(database.checkpoints(thread), 1):
        found = there.get((original.ns, original.id))
        if found is not None and _said(found) != _expected(thread, original):
            raise _other(saver, thread, f"has another checkpoint {original.id}")
        config = _config(thread, original.ns, original.parent)
        if found is None:
            saver.put(config, original.checkpoint, original.metadata, original.checkpoint["channel_versions"])  # type: ignore[arg-type]
        if found is None or _pending(found) != _calls(original):
            for task, path, writes in original.writes:
                saver.put_writes(_config(thread, original.ns, original.id), writes, task, path)  # type: ignore[arg-type]
        watch(done)
    _verify(database, saver, thread)
    return len(source), len(there)


def _verify(database: Database, saver: LandedSaver, thread: str) -> None:
    there = {_key(found): found for found in saver.list({"configurable": {"thread_id": thread}})}
    for original in database.checkpoints(thread):
        one = saver.get_tuple(_config(thread, original.ns, original.id))  # type: ignore[arg-type]
        for found in (there.get((original.ns, original.id)), one):
            if found is None or (_said(found), _pending(found)) != (_expected(thread, original), _calls(original)):
                raise VerifyFailed(
                    f"checkpoint {original.id} of thread {thread!r} does not read back as the database has it",
                    path=saver._threads.journals.path,
                    step="verify",
                    hint="Keep the database, and report it; the other threads are not concerned.",
                )


def _other(saver: LandedSaver, thread: str, what: str) -> Refused:
    hint = "Import into another directory, or delete that thread first: landed prune-threads --delete."
    return Refused(f"the thread {thread!r} there {what}", path=saver._threads.journals.path, step="compare", hint=hint)


def _said(found: CheckpointTuple) -> Any:  # noqa: ANN401 - to be compared
    """What the target says of a checkpoint, in a form that compares by bytes."""
    parent = given(found.parent_config)["checkpoint_id"] if found.parent_config else None
    return given(found.config)["thread_id"], parent, _flat(found.checkpoint), _flat(found.metadata)


def _expected(thread: str, original: Original) -> Any:  # noqa: ANN401 - likewise
    return thread, original.parent, _flat(original.checkpoint), _flat(original.metadata)


def _pending(found: CheckpointTuple) -> list[tuple[str, str, Typed]]:
    return sorted((task, channel, _packed(value)) for task, channel, value in found.pending_writes or [])


def _calls(original: Original) -> list[tuple[str, str, Typed]]:
    return sorted((task, channel, _packed(value)) for task, _, writes in original.writes for channel, value in writes)


def _flat(value: Any) -> Any:  # noqa: ANN401 - any value
    """Mappings without the order of their keys, two levels down: channels are no sequence. All else as its bytes."""
    return {
        key: {name: _packed(each) for name, each in part.items()} if isinstance(part, dict) else _packed(part)
        for key, part in value.items()
    }


def _packed(value: Any) -> Typed:  # noqa: ANN401 - any value
    return AsStored().dumps_typed(value)


def _key(found: CheckpointTuple) -> tuple[str, str]:
    return given(found.config)["checkpoint_ns"], found.checkpoint["id"]


def _config(thread: str, ns: str, id: str | None) -> dict[str, Any]:
    chosen = {} if id is None else {"checkpoint_id": id}
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, **chosen}}
