"""`LandedStorage` against a plain list, and its scores against LanceDB's; and the bugs that this must see."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from crewai.memory.storage.lancedb_storage import LanceDBStorage
from crewai.memory.types import MemoryRecord
from hypothesis import HealthCheck, Phase, given, settings
from model import play, plays

import landed
from crewai_landed import LandedStorage, dictionary, records, storage, store, table

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = 100
MEMORY = "/dev/shm"  # the contents are compared here, and not what survives
PLACE = MEMORY if Path(MEMORY).is_dir() else None


def played(steps: Any) -> None:
    with tempfile.TemporaryDirectory(dir=PLACE) as directory:
        play(steps, Path(directory))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plays)
def test_any_operations_in_any_order(steps: Any) -> None:
    played(steps)


@pytest.mark.parametrize("dimension", [3, 384])
def test_scores_and_order_are_those_of_lancedb(dimension: int, tmp_path: Path) -> None:
    random = np.random.default_rng(dimension)
    made = [
        MemoryRecord(
            id=f"{number}",
            content="",
            scope=f"/s/{number % 3}",
            embedding=(random.standard_normal(dimension) * (1 + number % 4)).tolist(),
        )
        for number in range(300)
    ]
    ours, theirs = LandedStorage(tmp_path / "ours"), LanceDBStorage(tmp_path / "theirs", compact_every=0)
    ours.save(made)
    theirs.save(made)
    for _ in range(10):
        query = random.standard_normal(dimension).tolist()
        for scope in (None, "/s/1"):
            mine = ours.search(query, scope_prefix=scope, limit=20)
            his = theirs.search(query, scope_prefix=scope, limit=20)
            assert [record.id for record, _ in mine] == [record.id for record, _ in his]
            assert [score for _, score in mine] == pytest.approx([score for _, score in his], rel=1e-4)


def test_the_nearest_are_told_apart_where_float32_cannot(tmp_path: Path) -> None:
    """Far from the origin, products of float32 numbers lose the small differences that decide."""
    random = np.random.default_rng(1)
    far = random.standard_normal(384) * 1000
    made = [
        MemoryRecord(id=f"{number}", content="", embedding=(far + random.standard_normal(384) * 0.01).tolist())
        for number in range(200)
    ]
    storage = LandedStorage(tmp_path)
    storage.save(made)
    stored = {record.id: np.array(record.embedding) for record in storage.list_records()}
    query = np.array(far.tolist(), np.float32).astype(np.float64)
    exact = sorted(stored, key=lambda name: float(((stored[name] - query) ** 2).sum()))
    found = [record.id for record, _ in storage.search(far.tolist(), limit=10)]
    assert found == exact[:10]


# Planted bugs: each must be seen by the test above.


def scopes_without_paths(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(table, "inside", lambda prefix: (prefix, prefix))


def an_update_drops_private(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(storage, "REVISED", records.MEMORY)


def an_empty_list_of_ids_deletes_everything(patch: pytest.MonkeyPatch) -> None:
    real = records.Condition.of
    patch.setattr(
        records.Condition,
        "of",
        lambda scope, tags=None, ids=None, older=None, metadata=None: real(scope, tags, ids or None, older, metadata),
    )


def deletion_ignores_age(patch: pytest.MonkeyPatch) -> None:
    real = records.Condition.of
    patch.setattr(
        records.Condition,
        "of",
        lambda scope, tags=None, ids=None, older=None, metadata=None: real(scope, tags, ids, None, metadata),
    )


def a_hole_keeps_its_scope(patch: pytest.MonkeyPatch) -> None:
    real = table.Table._remove

    def remove(self: table.Table, mask: Any) -> int:
        before = self._scope.copy()
        removed = real(self, mask)
        if mask is not None:
            self._scope[: len(self)] = before[: len(self)]
        return removed

    patch.setattr(table.Table, "_remove", remove)


def codes_are_never_given_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dictionary.Dictionary, "give_back", lambda self, code: None)


def another_dimension_is_accepted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(table.Table, "mismatch", lambda self, dimensions: None)


def the_table_misses_what_others_save(patch: pytest.MonkeyPatch) -> None:
    real = store.Store._catch_up

    def catch_up(self: store.Store, journal: landed.Journal) -> None:
        if not self._table.tail or self._writers:
            real(self, journal)

    patch.setattr(store.Store, "_catch_up", catch_up)


def a_compaction_drops_what_it_has_not_judged(patch: pytest.MonkeyPatch) -> None:
    real = table.Table.live
    patch.setattr(table.Table, "live", lambda self: dict(list(real(self).items())[1:]))


def a_compaction_forgets_what_an_update_kept(patch: pytest.MonkeyPatch) -> None:
    def kept(entry: landed.Entry, live: dict[str, tuple[int, bytes]]) -> bool:
        alive = live.get(entry.key.decode(), (0, b""))[0] == entry.sequence
        return alive and entry.kind in {records.MEMORY, records.REVISED}

    patch.setattr(store, "_kept", kept)


def the_newest_come_last(patch: pytest.MonkeyPatch) -> None:
    real = table.Table.newest
    patch.setattr(
        table.Table, "newest", lambda self, condition, limit, offset: real(self, condition, limit, offset)[::-1]
    )


BUGS = [
    scopes_without_paths,
    an_update_drops_private,
    an_empty_list_of_ids_deletes_everything,
    deletion_ignores_age,
    a_hole_keeps_its_scope,
    codes_are_never_given_back,
    another_dimension_is_accepted,
    the_table_misses_what_others_save,
    a_compaction_drops_what_it_has_not_judged,
    a_compaction_forgets_what_an_update_kept,
    the_newest_come_last,
]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_planted_bug_is_seen(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    check = settings(
        max_examples=10_000,  # until it is seen, which a rare one may take long for
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(given(plays)(played))
    with pytest.raises((AssertionError, landed.LandedError, KeyError, ValueError)):
        check()
