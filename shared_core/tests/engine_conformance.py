"""What every engine of the journal must do: the promises of `landed.engine.Log`, checked through nothing but `Log`.

A new engine subclasses `LogConformance`, says how a handle is opened, and inherits the checks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, TypeAlias

import pytest

from landed.engine import Batch, Commit
from landed.errors import Claimed, Full, LockTimeout, StaleWrite

if TYPE_CHECKING:
    from landed.engine import Log, Rewrite

TIMEOUT = 10.0
"""Seconds in which a lock that is free must be had, on a busy machine too."""
MOMENT = 0.06
"""Seconds after which an engine may trust what it saw of the others before."""
LIMIT = 64 << 10
"""A growth limit in bytes that any engine can keep to and that a test can reach."""

OpenLog: TypeAlias = "Callable[..., Log]"
"""Opens another handle on the one store of the test; takes `max_bytes`."""


def land(log: Log, *payloads: bytes, count: int = 1, expect: int | None = None) -> list[Commit]:
    """Commit payloads, however many calls the log takes for that; all must land."""
    commits = [Commit(payload, count, expect if index == 0 else None, inf) for index, payload in enumerate(payloads)]
    decide(log, commits)
    for commit in commits:
        assert commit.error is None
        assert commit.sequence > 0
    return commits


def decide(log: Log, commits: list[Commit]) -> None:
    rest = commits
    while rest:
        decided = log.commit(rest, TIMEOUT)
        assert 1 <= decided <= len(rest)
        assert all(commit.decided for commit in rest[:decided])
        rest = rest[decided:]


def payloads(log: Log, start: int = 1) -> list[bytes]:
    return [batch.payload for batch in log.batches(start)]


def keep(wanted: Callable[[Batch], bool]) -> Rewrite:
    return lambda batch: batch.payload if wanted(batch) else None


class LogConformance:
    """The checks. A subclass provides the fixture `open_log`."""

    # An empty log.

    def test_empty(self, open_log: OpenLog) -> None:
        log = open_log()
        assert log.tail() == 0
        assert payloads(log) == []
        assert list(log.newest_first()) == []
        assert log.name

    # Appending.

    def test_commit_gives_numbers_in_order(self, open_log: OpenLog) -> None:
        log = open_log()
        first, second = land(log, b"one", b"two", count=3)
        assert (first.sequence, second.sequence) == (1, 4)
        assert log.tail() == 6
        (third,) = land(log, b"three")
        assert third.sequence == 7
        assert [(batch.sequence, batch.payload) for batch in log.batches(1)] == [
            (1, b"one"),
            (4, b"two"),
            (7, b"three"),
        ]

    def test_another_handle_sees_a_commit_at_once(self, open_log: OpenLog) -> None:
        here, there = open_log(), open_log()
        for number in range(1, 6):
            land(here, b"%d" % number)
            assert there.tail() == number
            assert payloads(there)[-1] == b"%d" % number
            here, there = there, here

    @pytest.mark.parametrize("size", [0, 1, 7, 8, 4095, 4096, 4097, 70_000, 5 << 20])
    def test_payload_of_any_size_comes_back(self, open_log: OpenLog, size: int) -> None:
        log = open_log()
        land(log, b"before", b"\0" * size, b"\xff" * size, b"after")
        assert payloads(open_log()) == [b"before", b"\0" * size, b"\xff" * size, b"after"]

    def test_payload_may_be_the_log_itself(self, open_log: OpenLog) -> None:
        log = open_log()
        (inner,) = land(log, b"inner")
        held = log.fetch(inner.position)
        assert held is not None
        land(log, held.payload * 3)
        assert payloads(log) == [b"inner", b"inner" * 3]

    def test_many_commits_at_once(self, open_log: OpenLog) -> None:
        log = open_log()
        land(log, *(b"%d" % number for number in range(100)))
        assert payloads(open_log()) == [b"%d" % number for number in range(100)]

    # Compare-and-swap.

    def test_expectation_met(self, open_log: OpenLog) -> None:
        log = open_log()
        land(log, b"one", expect=0)
        land(log, b"two", expect=1)
        assert payloads(log) == [b"one", b"two"]

    @pytest.mark.parametrize("expect", [0, 1, 3, 1 << 40])
    def test_expectation_not_met(self, open_log: OpenLog, expect: int) -> None:
        log = open_log()
        land(log, b"one", b"two")
        commit = Commit(b"stale", 1, expect, inf)
        assert log.commit([commit], TIMEOUT) == 1
        assert isinstance(commit.error, StaleWrite)
        assert (commit.error.expected, commit.error.found) == (str(expect), "2")
        assert payloads(open_log()) == [b"one", b"two"]
        assert log.tail() == 2

    def test_expectation_sees_what_another_handle_committed(self, open_log: OpenLog) -> None:
        here, there = open_log(), open_log()
        land(here, b"one")
        land(there, b"two")
        commit = Commit(b"stale", 1, 1, inf)
        here.commit([commit], TIMEOUT)
        assert isinstance(commit.error, StaleWrite)

    def test_expectations_within_a_group(self, open_log: OpenLog) -> None:
        log = open_log()
        commits = [Commit(b"%d" % n, 1, expect, inf) for n, expect in enumerate([7, 0, 0, None, 2, 2])]
        decide(log, commits)
        assert [isinstance(commit.error, StaleWrite) for commit in commits] == [True, False, True, False, False, True]
        assert payloads(log) == [b"1", b"3", b"4"]

    # Reading.

    def test_batches_that_end_at_or_after_a_number(self, open_log: OpenLog) -> None:
        log = open_log()
        land(log, b"1-3", b"4-6", b"7-9", count=3)
        assert payloads(log, 0) == payloads(log, 1) == payloads(log, 3) == [b"1-3", b"4-6", b"7-9"]
        assert payloads(log, 4) == payloads(log, 6) == [b"4-6", b"7-9"]
        assert payloads(log, 9) == [b"7-9"]
        assert payloads(log, 10) == []

    def test_newest_first(self, open_log: OpenLog) -> None:
        log = open_log()
        land(log, *(b"%d" % number * 500 for number in range(40)))
        assert [batch.payload for batch in log.newest_first()] == payloads(log)[::-1]
        assert [batch.sequence for batch in log.newest_first()] == list(range(40, 0, -1))

    def test_fetch(self, open_log: OpenLog) -> None:
        log = open_log()
        commits = land(log, *(b"%d" % number * 500 for number in range(20)))
        for commit in commits:
            batch = open_log().fetch(commit.position)
            assert batch is not None
            assert (batch.sequence, batch.payload, batch.position) == (commit.sequence, commit.payload, commit.position)
        assert [batch.position for batch in log.batches(1)] == [commit.position for commit in commits]

    # Compaction.

    def test_compaction_keeps_what_it_is_told_to_with_its_numbers(self, open_log: OpenLog) -> None:
        log, other = open_log(), open_log()
        land(log, *(b"%d" % number * 500 for number in range(1, 41)))
        log.rewrite(keep(lambda batch: batch.sequence % 3 == 0), TIMEOUT)
        for reader in (log, other, open_log()):
            assert [batch.sequence for batch in reader.batches(1)] == list(range(3, 41, 3))
            assert [batch.sequence for batch in reader.newest_first()] == list(range(39, 0, -3))
            assert reader.tail() == 40
            assert [batch.sequence for batch in reader.batches(31)] == [33, 36, 39]
        assert land(other, b"next")[0].sequence == 41

    def test_compaction_of_everything(self, open_log: OpenLog) -> None:
        log = open_log()
        land(log, *(bytes(500) for _ in range(40)))
        before, after = log.rewrite(keep(lambda _: False), TIMEOUT)
        assert after < before
        assert payloads(log) == payloads(open_log()) == []
        assert log.tail() == open_log().tail() == 40
        assert land(open_log(), b"next", expect=40)[0].sequence == 41

    def test_compaction_of_one_batch(self, open_log: OpenLog) -> None:
        log = open_log()
        land(log, b"one")
        log.rewrite(keep(lambda _: True), TIMEOUT)
        assert payloads(log) == payloads(open_log()) == [b"one"]

    def test_compaction_of_nothing(self, open_log: OpenLog) -> None:
        log = open_log()
        log.rewrite(keep(lambda _: True), TIMEOUT)
        assert payloads(log) == []
        assert land(log, b"one")[0].sequence == 1

    def test_compaction_replaces(self, open_log: OpenLog) -> None:
        log = open_log()
        land(log, *(b"%d" % number * 500 for number in range(40)))
        log.rewrite(lambda batch: b"short" if batch.sequence % 2 else batch.payload * 2, TIMEOUT)
        expected = [b"short" if number % 2 == 0 else b"%d" % number * 1000 for number in range(40)]
        assert payloads(log) == payloads(open_log()) == expected

    def test_compaction_again_without_an_append(self, open_log: OpenLog) -> None:
        log = open_log()
        land(log, *(bytes(500) for _ in range(40)))
        log.rewrite(keep(lambda batch: batch.sequence > 10), TIMEOUT)
        log.rewrite(keep(lambda batch: batch.sequence > 20), TIMEOUT)
        assert [batch.sequence for batch in open_log().batches(1)] == list(range(21, 41))

    def test_compaction_again_after_appends(self, open_log: OpenLog) -> None:
        log = open_log()
        for upto in (40, 80, 120):
            land(log, *(bytes(500) for _ in range(40)))
            log.rewrite(keep(lambda batch, upto=upto: batch.sequence > upto - 5), TIMEOUT)
            assert [batch.sequence for batch in open_log().batches(1)] == list(range(upto - 4, upto + 1))
        assert open_log().tail() == 120

    def test_fetch_after_compaction_gives_the_same_batch_or_none(self, open_log: OpenLog) -> None:
        log = open_log()
        commits = land(log, *(b"%d" % number * 500 for number in range(40)))
        log.rewrite(keep(lambda batch: batch.sequence > 20), TIMEOUT)
        for commit in commits:
            batch = log.fetch(commit.position)
            assert batch is None or (batch.sequence, batch.payload) == (commit.sequence, commit.payload)
        for batch in log.batches(1):
            held = log.fetch(batch.position)
            assert held is not None
            assert held.payload == batch.payload

    def test_fetch_after_a_second_compaction_gives_the_same_batch_or_none(self, open_log: OpenLog) -> None:
        """Without an append in between, which would give what is compacted another name.

        Who has not looked since may still find what was dropped, as it was.
        """
        log, other = open_log(), open_log()
        land(log, *(b"%d" % number * 500 for number in range(10, 30)))
        log.rewrite(keep(lambda _: True), TIMEOUT)
        batches = list(log.batches(1))
        other.rewrite(keep(lambda batch: batch.sequence != 5), TIMEOUT)
        other.rewrite(lambda batch: batch.payload[: -1 if batch.sequence == 7 else None], TIMEOUT)
        for batch in batches:
            held = log.fetch(batch.position)
            assert held is None or held.sequence == batch.sequence

    def test_appends_during_compaction_stay(self, open_log: OpenLog) -> None:
        log, other = open_log(), open_log()
        land(log, *(b"%d" % number * 500 for number in range(20)))

        def rewrite(batch: Batch) -> bytes | None:
            if batch.sequence <= 20:
                land(other, b"meanwhile" * 100)
                assert payloads(other)[-1] == b"meanwhile" * 100
            return None

        log.rewrite(rewrite, TIMEOUT)
        assert payloads(log) == payloads(open_log()) == [b"meanwhile" * 100] * 20
        assert log.tail() == 40

    @pytest.mark.parametrize("newest_first", [False, True])
    def test_reader_of_before_a_compaction_finishes(self, open_log: OpenLog, newest_first: bool) -> None:
        log, other = open_log(), open_log()
        land(log, *(b"%d" % number * 500 for number in range(40)))
        reader = log.newest_first() if newest_first else log.batches(1)
        got = [next(reader).sequence for _ in range(3)]
        other.rewrite(keep(lambda _: True), TIMEOUT)
        land(other, b"more")
        got += [batch.sequence for batch in reader]
        whole = list(range(1, 41))
        assert got[: len(whole)] == (whole[::-1] if newest_first else whole)
        assert got[len(whole) :] in ([], [41])

    def test_compaction_that_is_given_up_changes_nothing(self, open_log: OpenLog) -> None:
        log = open_log()
        land(log, *(b"%d" % number * 500 for number in range(40)))
        before = payloads(log)

        def rewrite(batch: Batch) -> bytes | None:
            if batch.sequence == 30:
                raise ZeroDivisionError
            return None

        with pytest.raises(ZeroDivisionError):
            log.rewrite(rewrite, TIMEOUT)
        assert payloads(log) == payloads(open_log()) == before
        land(log, b"next")
        log.rewrite(keep(lambda batch: batch.sequence > 40), TIMEOUT)
        assert payloads(open_log()) == [b"next"]

    def test_one_compaction_at_a_time(self, open_log: OpenLog) -> None:
        log, other = open_log(), open_log()
        land(log, *(bytes(500) for _ in range(40)))
        refused = []

        def rewrite(batch: Batch) -> bytes | None:
            thread = threading.Thread(target=compact_too)
            thread.start()
            thread.join()
            return batch.payload

        def compact_too() -> None:
            try:
                other.rewrite(keep(lambda _: False), 0.0)
            except LockTimeout as error:
                refused.append(error)

        log.rewrite(rewrite, TIMEOUT)
        assert len(refused) == 40
        assert len(payloads(open_log())) == 40

    def test_compaction_gives_space_back(self, open_log: OpenLog) -> None:
        log = open_log()
        land(log, *(bytes(1000) for _ in range(200)))
        full = open_log().size()
        before, after = log.rewrite(keep(lambda batch: batch.sequence > 190), TIMEOUT)
        assert before == full
        assert after == log.size() == open_log().size()
        assert after < before // 2

    # Growth limit.

    def test_growth_limit(self, open_log: OpenLog) -> None:
        log = open_log(max_bytes=LIMIT)
        landed = self._fill(log, 1000)
        assert landed > 10
        before = payloads(log)
        with pytest.raises(Full):
            log.commit([Commit(bytes(LIMIT), 1, None, inf)], TIMEOUT)
        assert payloads(open_log(max_bytes=LIMIT)) == before
        assert log.size() <= LIMIT

    def test_smaller_appends_still_fit(self, open_log: OpenLog) -> None:
        log = open_log(max_bytes=LIMIT)
        land(log, b"small")
        with pytest.raises(Full):
            log.commit([Commit(bytes(LIMIT), 1, None, inf)], TIMEOUT)
        assert land(log, b"small too", expect=1)[0].sequence == 2

    def test_full_log_can_be_compacted(self, open_log: OpenLog) -> None:
        log = open_log(max_bytes=LIMIT)
        self._fill(log, 1000)
        log.rewrite(keep(lambda _: False), TIMEOUT)
        land(log, bytes(1000))

    @staticmethod
    def _fill(log: Log, size: int) -> int:
        for landed in range(10_000):
            try:
                log.commit([Commit(bytes(size), 1, None, inf)], TIMEOUT)
            except Full:
                return landed
        raise AssertionError("no limit")

    # Owning.

    def test_claim_shuts_others_out(self, open_log: OpenLog) -> None:
        owner, other = open_log(), open_log()
        land(other, b"before")
        owner.claim()
        owner.claim()  # owning twice is owning
        for _ in range(3):
            time.sleep(MOMENT)
            with pytest.raises(Claimed) as refused:
                other.commit([Commit(b"no", 1, None, inf)], TIMEOUT)
            assert refused.value.holder
        with pytest.raises(Claimed):
            other.claim()
        with pytest.raises(Claimed):
            open_log().commit([Commit(b"no", 1, None, inf)], TIMEOUT)
        land(owner, b"mine")
        assert payloads(owner) == [b"before", b"mine"]

    def test_claim_ends_with_close(self, open_log: OpenLog) -> None:
        owner, other = open_log(), open_log()
        owner.claim()
        owner.close()
        land(other, b"free")
        other.claim()
        other.close()
        assert payloads(open_log()) == [b"free"]

    # Many at once.

    def test_threads_and_handles_append_in_one_order(self, open_log: OpenLog) -> None:
        logs = [open_log(), open_log()]
        landed: list[tuple[int, bytes]] = []
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for turn in range(25):
                    payload = b"%d/%d" % (number, turn)
                    landed.append((land(logs[number % 2], payload)[0].sequence, payload))
            except BaseException as error:  # noqa: BLE001 - shown below
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert [(batch.sequence, batch.payload) for batch in logs[0].batches(1)] == sorted(landed)
        assert [number for number, _ in sorted(landed)] == list(range(1, 101))

    def test_close_twice(self, open_log: OpenLog) -> None:
        log = open_log()
        land(log, b"one")
        log.close()
        log.close()
        assert payloads(open_log()) == [b"one"]
