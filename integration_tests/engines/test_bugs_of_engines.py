"""For each promise of the engines a bug that breaks it, and the test that has to see it; the hosts have their own."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed")
pytest.importorskip("obstore", reason="obstore is not installed")

import test_objects_answers
import test_objects_hosts
import test_objects_stores
import test_postgres_answers
import test_postgres_processes
import test_postgres_servers
import test_whole_files

from landed import remote
from landed.errors import NotLanded
from landed.objects import compaction, probe, segments, store
from landed.objects import group as puts
from landed.objects import log as heads
from landed.postgres import group as statements
from landed.postgres import schema, server
from landed.postgres.exchange import Statement

Plant: TypeAlias = Callable[[pytest.MonkeyPatch], Any]


def replaced(where: object, name: str, by: object) -> Plant:
    return lambda patch: patch.setattr(where, name, by)


# PostgreSQL.


def a_batch_is_acknowledged_unread(patch: pytest.MonkeyPatch) -> None:
    def blindly(self: statements.Group, *_: object) -> list[Any]:
        for commit, sequence in zip(self.landing, self._sequences, strict=True):
            commit.sequence, commit.position = sequence, (sequence, 0)
        return []

    patch.setattr(statements.Group, "acknowledge", blindly)


def appends_name_no_epoch(patch: pytest.MonkeyPatch) -> None:
    text = statements.APPEND_ONE.text.decode()
    patch.setattr(
        statements, "APPEND_ONE", Statement(text.replace("AND epoch = $2::bigint", "AND $2::bigint IS NOT NULL"))
    )


def errors_name_the_whole_address(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        server.Server,
        "failed",
        lambda self, kind, _, what, step, __="": kind(f"{what}: {self._address.conninfo}", path=self.shown, step=step),
    )


# Object storage.


def whatever_has_the_number_is_ours(self: puts.Group, head: Any, objects: Any) -> Any:
    found = [objects.find(head, frame.sequence) for frame in self.frames]
    return None if None in found else found


def puts_have_no_condition(patch: pytest.MonkeyPatch) -> None:
    put = store.Store.put
    patch.setattr(
        store.Store,
        "put",
        lambda self, key, data, known: (
            put(self, key, data, known)
            if "probe" in key
            else store._tag(self._client.put(key, data, mode="overwrite", use_multipart=False))
        ),
    )


def errors_name_the_environment(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store, "words", lambda error: f"{error} {os.environ['AWS_SECRET_ACCESS_KEY']}")


def segments_are_not_read_back(patch: pytest.MonkeyPatch) -> None:
    def write(self: segments.Objects, head: Any, name: str, frames: Any, _: float) -> None:
        self.store.put(self.folder(head) + name, segments.encode_segment(head.incarnation, frames), None)

    patch.setattr(segments.Objects, "write", write)


answers, servers, processes = test_postgres_answers, test_postgres_servers, test_postgres_processes
replies, stores, away = test_objects_answers, test_objects_stores, test_objects_hosts
LIE = {"body": "new.payload = 'other'; RETURN new;"}
IGNORED = {"kind": str, "what": "creates an object that is there"}
NOTHING_PUT = {"lie": "nothing was put"}
TABLE: list[tuple[str, Plant, Callable[..., Any], dict[str, Any]]] = [
    ("PostgreSQL: a lie", a_batch_is_acknowledged_unread, servers.test_a_lying_server_is_found_out_in_the_append, LIE),
    (
        "PostgreSQL: the nonce",
        replaced(statements.Group, "is_in", lambda _, proof: bool(proof)),
        answers.test_a_lost_answer_in_a_race_doubles_nothing,
        {},
    ),
    (
        "PostgreSQL: a lost answer",
        replaced(statements.Group, "is_in", lambda *_: False),
        answers.test_a_lost_answer_is_told_from_a_conflict,
        {"answers": 1},
    ),
    (
        "PostgreSQL: fencing",
        appends_name_no_epoch,
        processes.test_an_append_that_was_on_its_way_while_the_claim_changed_does_nothing,
        {},
    ),
    (
        "PostgreSQL: settings",
        replaced(schema, "check", lambda *_, **__: None),
        servers.test_a_server_that_does_not_flush_is_refused,
        {},
    ),
    ("PostgreSQL: secrets", errors_name_the_whole_address, servers.test_credentials_are_nowhere_to_be_seen, {}),
    (
        "objects: a lie",
        replaced(puts.Group, "found", lambda self, *_: self.frames),
        stores.test_a_lying_store_is_found_out_in_the_append,
        NOTHING_PUT,
    ),
    (
        "objects: the nonce",
        replaced(puts.Group, "found", whatever_has_the_number_is_ours),
        replies.test_a_lost_reply_to_who_came_second_is_no_success,
        {},
    ),
    (
        "objects: a lost reply",
        replaced(heads, "OutcomeUnknown", NotLanded),
        replies.test_a_store_out_of_reach_is_unknown_or_not_landed_in_time,
        {},
    ),
    ("objects: conditions", puts_have_no_condition, replies.test_a_lost_reply_to_who_came_second_is_no_success, {}),
    (
        "objects: the probe",
        replaced(probe, "_lands", lambda *_: False),
        stores.test_a_store_that_ignores_a_condition_is_refused,
        IGNORED,
    ),
    (
        "objects: fencing",
        replaced(heads.ObjectLog, "_refuse_if_claimed", lambda *_: None),
        away.test_an_owner_that_was_away_is_refused_when_it_is_back,
        {},
    ),
    (
        "objects: segments",
        segments_are_not_read_back,
        stores.test_a_segment_that_is_not_there_is_named_by_no_head,
        {**NOTHING_PUT, "how": "append"},
    ),
    (
        "objects: compaction",
        replaced(compaction, "_named", lambda _: set()),
        away.test_a_compaction_whose_first_reply_is_lost_deletes_nothing_that_is_named,
        {"overtaken": False},
    ),
    ("objects: secrets", errors_name_the_environment, stores.test_credentials_are_nowhere_to_be_seen, {}),
    (
        "whole files: a lost answer",
        replaced(remote, "overtaken", lambda *_: False),
        test_whole_files.test_a_write_that_others_were_built_on_has_landed,
        {"others": 2, "lost": True},
    ),
    (
        "whole files: a lie",
        replaced(remote, "_lied", lambda *_: None),
        test_whole_files.test_a_lying_store_is_found_out,
        NOTHING_PUT,
    ),
]


@pytest.mark.parametrize(("promise", "plant", "test", "arguments"), TABLE, ids=[row[0] for row in TABLE])
def test_a_planted_bug_is_seen(
    request: pytest.FixtureRequest, promise: str, plant: Plant, test: Callable[..., Any], arguments: dict[str, Any]
) -> None:
    wanted = inspect.signature(test).parameters
    given = {name: arguments[name] if name in arguments else request.getfixturevalue(name) for name in wanted}
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        with pytest.raises((Exception, pytest.fail.Exception)):  # an assertion's, or what the bug makes landed raise
            test(**given)
