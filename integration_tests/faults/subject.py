"""The program under test: one operation between two marker calls, then what became of it.

Run as ``python -S -s subject.py OPERATION PATH SCRATCH`` with landed on PYTHONPATH. Everything that Python and landed
do once only (imports, boot id) is done beforehand on a scratch file, so that between the markers stand the operation's
own system calls and nothing else. Prints one JSON line before the operation and one after it.
"""

from __future__ import annotations

import json
import os
import sys

import landed

BEGIN = "/landed-marker-begin"
END = "/landed-marker-end"
OLD = b"old bytes\n" * 10
NEW = b"the bytes of the operation\n" * 200
AFTERWARDS = b"written by the same process afterwards\n"


def write(path: str) -> None:
    landed.write(path, NEW, expect=landed.ANY)


def edit(path: str) -> None:
    with landed.edit(path) as draft:
        draft.data = NEW


def delete(path: str) -> None:
    landed.delete(path, expect=landed.ANY)


def read(path: str) -> None:
    landed.read(path)


def verify(path: str) -> None:
    landed.verify(path)


OPERATIONS = {call.__name__: call for call in (write, edit, delete, read, verify)}


def warm_up(directory: str) -> None:
    path = os.path.join(directory, "warm")
    for operation in (write, write, edit, read, verify, delete):
        operation(path)


def mark(name: str) -> None:
    assert not os.path.lexists(name)


def say(**fields: object) -> None:
    os.writev(1, [json.dumps(fields).encode() + b"\n"])  # not write: that one may be made to fail for good


def look(path: str) -> dict[str, object]:
    """What stands under the path, without landed: bytes, mode, attributes but landed's own, names in the directory."""
    directory = os.path.dirname(path)
    left: dict[str, object] = {"temps": temps(os.listdir(directory))}
    if not os.path.lexists(path):
        return {**left, "bytes": None}
    with open(path, "rb") as file:
        kept = [name for name in os.listxattr(path) if name != "user.landed"]
        return {**left, "bytes": file.read().decode(), "mode": os.stat(path).st_mode & 0o7777, "attributes": kept}


def temps(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(".landed-")]


def told(error: BaseException) -> dict[str, object]:
    fields = {name: getattr(error, name, None) for name in ("step", "errno", "outcome", "hint")}
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return {"raised": kinds[0], "kinds": kinds, "message": str(error), **fields}


def attempt(call: object, *arguments: object, **options: object) -> dict[str, object]:
    """What a caller hears: nothing, or the error, of whatever kind, in full."""
    try:
        call(*arguments, **options)  # type: ignore[operator]
    except Exception as error:  # noqa: BLE001 - the report names its kind, and the test judges that
        return told(error)
    return {"raised": None}


def main() -> None:
    operation, path, scratch = sys.argv[1:4]
    state = os.environ.pop("LANDED_STATE_DIR")
    os.environ["LANDED_STATE_DIR"] = os.path.join(scratch, "state")
    warm_up(scratch)
    os.environ["LANDED_STATE_DIR"] = state
    say(pid=os.getpid())
    mark(BEGIN)
    outcome = attempt(OPERATIONS[operation], path)
    mark(END)
    say(**outcome)
    if "--then" in sys.argv:  # is the library still usable?
        left = look(path)
        unread = attempt(landed.write, path, AFTERWARDS, expect=landed.ANY)
        attempt(landed.read, path)
        again = attempt(landed.write, path, AFTERWARDS, expect=landed.ANY)
        say(left=left, unread=unread, again=again)


if __name__ == "__main__":
    main()
