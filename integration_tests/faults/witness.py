"""A fresh process that looks at what another one left: first without touching anything, then as the next writer.

Run as ``python -S -s witness.py PATH`` with landed on PYTHONPATH. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys

import landed
import landed.audit
from landed.artifact import Artifact
from landed.log import writes
from landed.records import Record, Write

NEXT = b"the next writer's bytes\n"


def bytes_of(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return file.read().decode()
    except FileNotFoundError:
        return None


def words(write: Write | None) -> dict[str, object] | None:
    if write is None:
        return None
    return {"version": write.version, "digest": write.digest, "pid": write.owner.pid, "alive": write.owner.alive()}


def record_of(path: str) -> Record:
    return Artifact(path).shelf.load()


def audit(path: str) -> list[list[object]]:
    findings = landed.audit.audit(*landed.audit.stores(os.path.dirname(path)))
    return [[finding.verdict, finding.owner_alive, finding.detail] for finding in findings]


def names_in(path: str) -> list[str]:
    directory = os.path.dirname(path)
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def main() -> None:
    path = sys.argv[1]
    report: dict[str, object] = {}

    # 1. As it was left.
    record = record_of(path)
    report["disk"] = bytes_of(path)
    report["names"] = names_in(path)
    report["begun"] = words(record.begun)
    report["landed"] = words(record.landed)
    report["audit"] = audit(path)
    try:
        report["origin"] = landed.read(path).origin
    except FileNotFoundError:
        report["origin"] = None

    # 2. Verified, which settles what was left unfinished.
    try:
        verified = landed.verify(path, timeout=0)
    except landed.LandedError as error:
        report["verified"] = None
        report["why"] = str(error)
    else:
        report["verified"] = str(verified.version)
        report["digest"] = verified.digest
        report["settled"] = verified.settled
    report["settled_disk"] = bytes_of(path)
    report["settled_begun"] = words(record_of(path).begun)

    # 3. The next write, on what this process has read, without waiting.
    receipt = landed.write(path, NEXT, timeout=0)
    artifact = Artifact(path)
    report["next"] = [receipt.version, words(record_of(path).landed), bytes_of(path) == NEXT.decode()]
    report["history"] = [[write.version, landed_] for write, landed_ in writes(artifact.shelf)]
    report["left"] = names_in(path)
    report["audit_at_last"] = audit(path)
    print(json.dumps(report))


main()
