"""Commits laid out behind a journal's tail: one statement that appends them, or does nothing, and one that proves it.

The statement moves the tail from where the writer believes it to be. If it is elsewhere, it does nothing.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib

from landed.errors import VerifyFailed
from landed.postgres import server as waits
from landed.postgres.exchange import Statement, exchange
from landed.postgres.schema import OVERHEAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TypeAlias

    from landed.engine import Commit
    from landed.errors import LandedError
    from landed.postgres.exchange import Result
    from landed.postgres.rows import State
    from landed.postgres.server import Connection, Patient

    Proof: TypeAlias = dict[int, tuple[bytes, bytes, int]]
    """Of each batch that is there, by its number: nonce, payload or its digest, and revision."""

PIPELINED: Final = 1 << 20
"""Bytes up to which the proof is asked for before the append is answered; beside more, a round trip does not show."""
WHOLE: Final = 16 << 10
"""Bytes up to which a payload is read back whole: a digest of less costs both sides more than the way."""

_MOVED: Final = """
WITH moved AS (
    UPDATE landed_journal SET tail = {to}, batches = batches + {count}, bytes = bytes + {bytes}
    WHERE id = {journal} AND tail = {from} AND epoch = {epoch} AND bytes + {bytes} <= {limit}
    RETURNING id, revision
), added AS (
    INSERT INTO landed_batch (journal, sequence, tail, revision, nonce, crc, payload)
"""
_MANY: Final = """
    SELECT moved.id, new.sequence, new.tail, moved.revision, new.nonce, new.crc, new.payload
    FROM moved, unnest(%(sequences)s::bigint[], %(tails)s::bigint[], %(nonces)b::bytea[], %(crcs)s::bigint[],
                       %(payloads)b::bytea[]) AS new (sequence, tail, nonce, crc, payload)
)
SELECT revision FROM moved
"""
_ONE: Final = """
    SELECT id, {from} + 1, {to}, revision, $8::bytea, $9::bigint, $10::bytea FROM moved
)
SELECT revision FROM moved
"""
_NAMES: Final = ("journal", "epoch", "limit", "from", "to", "count", "bytes")
_NAMED: Final = {name: f"%({name})s" for name in _NAMES}
_NUMBERED: Final = {name: f"${number}::bigint" for number, name in enumerate(_NAMES, 1)}
APPEND: Final = (_MOVED + _MANY).format_map(_NAMED).encode()
APPEND_ONE: Final = Statement((_MOVED + _ONE).format_map(_NUMBERED))
"""The same for one batch, at half the price."""
_PROOF: Final = "SELECT nonce, sequence, {shown}, revision FROM landed_batch WHERE journal = {journal} AND sequence "
PROOF: Final = (
    _PROOF.format(
        shown=f"CASE WHEN octet_length(payload) > {WHOLE} THEN sha256(payload) ELSE payload END", journal="%(journal)s"
    )
    + "BETWEEN %(from)s + 1 AND %(to)s"
).encode()
_PROVE_ONE: Final = _PROOF + "= $2::bigint"
PROVE_ONE: Final = Statement(_PROVE_ONE.format(shown="payload", journal="$1::bigint"))
PROVE_LARGE: Final = Statement(_PROVE_ONE.format(shown="sha256(payload)", journal="$1::bigint"))
_BIGINT: Final = struct.Struct(">q")


class Group:
    """Commits behind a tail, with the nonces that they keep if they must be sent again.

    Attributes:
        tail, to: where the journal ends before and after.
        epoch, revision: the journal's, as they were seen last; `revision` is exact once it has landed.
        bytes: that they take.
        landing: the commits.
    """

    __slots__ = ("_nonces", "_sequences", "_tails", "bytes", "epoch", "landing", "revision", "tail", "to")

    def __init__(self, state: State) -> None:
        self.tail = self.to = state.tail
        self.epoch = state.epoch
        self.revision = state.revision
        self.bytes = 0
        self.landing: list[Commit] = []
        self._nonces: list[bytes] = []
        self._sequences: list[int] = []
        self._tails: list[int] = []

    def add(self, commit: Commit) -> None:
        """Lay out one more, behind the others."""
        commit.error = None  # of an earlier try
        self._sequences.append(self.to + 1)
        self.to += commit.count
        self._tails.append(self.to)
        self.bytes += len(commit.payload) + OVERHEAD
        self.landing.append(commit)
        self._nonces.append(os.urandom(16))

    def share(self, error: LandedError) -> None:
        """One statement, one fate. Were only one told, the others would be appended once more."""
        for commit in self.landing:
            if not commit.decided:
                commit.error = error

    def append(self, connection: Connection, journal: int, limit: int) -> bool:
        """Append, in the connection's transaction if there is one; whether it landed."""
        row = connection.execute(APPEND, self._named(journal, limit)).fetchone()
        if row is not None:
            self.revision = row[0]
        return row is not None

    def append_and_prove(self, connection: Patient, journal: int, limit: int) -> tuple[bool, Proof | None]:
        """Append, and prove it where that takes no further round trip: the append is committed before the read begins.

        Returns:
            Whether it landed; and the proof, or None where it was not asked for or not given.
        """
        if len(self.landing) > 1 or self.bytes > PIPELINED:
            return self.append(connection, journal, limit), None
        prove = PROVE_ONE if len(self.landing[0].payload) <= WHOLE else PROVE_LARGE
        proof = (prove, [_BIGINT.pack(journal), _BIGINT.pack(self.tail + 1)])
        moved, held = exchange(connection, (APPEND_ONE, self._numbered(journal, limit)), proof, waits.ANSWER)
        landed = moved.ntuples > 0
        if landed:
            self.revision = _number(moved.get_value(0, 0))
        return landed, None if held is None else _decoded(held)

    def prove(self, connection: Connection, journal: int) -> Proof:
        """What stands under the numbers of this group."""
        rows = connection.execute(PROOF, {"journal": journal, "from": self.tail, "to": self.to}).fetchall()
        return {sequence: (bytes(nonce), bytes(shown), revision) for nonce, sequence, shown, revision in rows}

    def is_in(self, proof: Proof) -> bool:
        """Whether one of its batches stands under its number; then all of them landed."""
        found = {held[0] for held in proof.values()}
        return any(nonce in found for nonce in self._nonces)

    def acknowledge(self, proof: Proof, name: str) -> list[Commit]:
        """Acknowledge each batch that stands under its number, with its nonce and its bytes; else `VerifyFailed`.

        A compaction that came since may have changed it, and the revision says so, or dropped it: the commits of such
        are returned.
        """
        gone = []
        for commit, nonce, sequence in zip(self.landing, self._nonces, self._sequences, strict=True):
            held, wanted = proof.get(sequence), _shown(commit.payload)
            if held is None:
                gone.append(commit)
            elif held[0] == nonce and (held[1] == wanted or held[2] > self.revision):
                commit.sequence, commit.position = sequence, (sequence, held[2])
            else:
                commit.error = lied(name, f"{sequence} {_digest(wanted)}", f"{sequence} {_digest(held[1])}")
        return gone

    def _named(self, journal: int, limit: int) -> dict[str, Any]:
        payloads = [commit.payload for commit in self.landing]
        return {
            "journal": journal,
            "epoch": self.epoch,
            "limit": limit,
            "from": self.tail,
            "to": self.to,
            "count": len(payloads),
            "bytes": self.bytes,
            "sequences": self._sequences,
            "tails": self._tails,
            "nonces": self._nonces,
            "crcs": [zlib.crc32(payload) for payload in payloads],
            "payloads": payloads,
        }

    def _numbered(self, journal: int, limit: int) -> list[bytes]:
        (commit,) = self.landing
        numbers = (journal, self.epoch, limit, self.tail, self.to, 1, self.bytes)
        crc = _BIGINT.pack(zlib.crc32(commit.payload))
        return [*map(_BIGINT.pack, numbers), self._nonces[0], crc, commit.payload]


def lied(name: str, expected: str, found: str) -> VerifyFailed:
    """The error for a batch that does not read back as it was sent."""
    return VerifyFailed(
        "the server acknowledged the batch, and reads it back otherwise",
        path=name,
        step="verify",
        expected=expected,
        found=found,
        hint="Read the journal again, and see what changes its tables.",
    )


def _shown(payload: bytes) -> bytes:
    """As a proof shows it."""
    return payload if len(payload) <= WHOLE else hashlib.sha256(payload).digest()


def _digest(shown: bytes) -> str:
    """For a message."""
    return hashlib.sha256(shown).hexdigest()


def _decoded(held: Result) -> Proof:
    if not held.ntuples:
        return {}
    nonce, sequence, shown, revision = [held.get_value(0, column) for column in range(4)]
    return {_number(sequence): (nonce or b"", shown or b"", _number(revision))}


def _number(value: bytes | None) -> int:
    return int(_BIGINT.unpack(value or b"")[0])
