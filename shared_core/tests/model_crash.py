"""What is left of a disk after its machine or its programs stopped.

`survivor` is the disk after every process died: nothing is lost. `crash_states` are the disks that a power cut may
leave: of everything that was not synced any part may have reached the device, in any order.

* Of a directory's changes any subset; each single one (also a rename) happened or did not. A journal keeps their order
  (a prefix), POSIX does not promise it.
* Of a file's writes any subset, each whole, torn at a sector, or, where it made the file longer, as zeros: the size is
  in the journal and the data was still to be allocated.
* Of changes of mode, owner and attributes a prefix, whatever became of the data.
"""

from __future__ import annotations

import itertools
import math
import stat
from collections.abc import Iterator
from random import Random
from typing import TypeAlias

from model_disk import Data, Disk, Entries, Meta, Node, Saved, Size

SECTOR = 512
SUBSET_LIMIT = 4
"""Up to this many operations every subset is tried; of more, prefixes and what lacks one."""
FILE_VARIANTS = 16

Variant: TypeAlias = "dict[str, Node] | Saved"
Choice: TypeAlias = "dict[int, Variant]"


def survivor(disk: Disk) -> Disk:
    """A copy of the disk as the processes that died left it: nothing open, nothing locked, what was owed still owed."""
    twin = _like(disk)
    copies: dict[int, Node] = {id(disk.root): twin.root}

    def copy(node: Node) -> Node:
        known = copies.get(id(node))
        if known is None:
            known = copies[id(node)] = Node(node.kind, node.number, node.now, node.target)
            fill(node, known)
        return known

    def moved(operation: Data | Size | Meta | Entries) -> Data | Size | Meta | Entries:
        if not isinstance(operation, Entries):
            return operation
        return Entries(*((name, copy(node) if node is not None else None) for name, node in operation.changes))

    def fill(node: Node, made: Node) -> None:
        made.now, made.saved = node.now, node.saved
        made.mtime, made.ctime = node.mtime, node.ctime
        made.entries = {name: copy(child) for name, child in node.entries.items()}
        made.saved_entries = {name: copy(child) for name, child in node.saved_entries.items()}
        made.pending = [moved(operation) for operation in node.pending]
        made.lost = [moved(operation) for operation in node.lost]

    fill(disk.root, twin.root)
    _count(twin)
    return twin


def crash_states(
    disk: Disk, limit: int, rng: Random, *, ordered: bool = False, known: set[object] | None = None
) -> list[Disk]:
    """The disks that a power cut now may leave; a sample when there are more than about `limit`.

    Args:
        ordered: directories keep the order of their changes, as a journal does.
        known: fingerprints of disks that need not come again; those that are returned are added.
    """
    nodes = _reachable(disk)
    variants = {id(node): _variants(node, rng, ordered=ordered) for node in nodes if node.pending or node.lost}
    if known is None:
        known = set()
    states = []
    for choice in _choices(variants, limit, rng):
        held = fingerprint(disk.root, choice)
        if held not in known:
            known.add(held)
            states.append(_boot(disk, choice))
    return states


def fingerprint(root: Node, choice: Choice) -> object:
    """Equal for disks that boot with the same below this directory."""
    names: dict[int, int] = {}

    def key(node: Node) -> object:
        held = choice.get(id(node))
        again = names.setdefault(id(node), len(names))
        if node.kind != stat.S_IFDIR:
            return (again, node.kind, node.target, node.saved if held is None else held)
        entries = node.saved_entries if held is None else held
        assert isinstance(entries, dict)
        return tuple([(name, key(entries[name])) for name in sorted(entries)])

    return key(root)


def _like(disk: Disk) -> Disk:
    twin = Disk(xattrs=disk.xattrs)
    twin.clock = disk.clock
    return twin


def _reachable(disk: Disk) -> list[Node]:
    found: dict[int, Node] = {}
    todo = [disk.root]
    while todo:
        node = todo.pop()
        if id(node) in found:
            continue
        found[id(node)] = node
        todo += node.saved_entries.values()
        for operation in node.lost + node.pending:
            if isinstance(operation, Entries):
                todo += [child for _, child in operation.changes if child is not None]
    return list(found.values())


def _choices(variants: dict[int, list[Variant]], limit: int, rng: Random) -> Iterator[Choice]:
    keys = list(variants)
    if math.prod(len(variants[key]) for key in keys) <= limit:
        for combination in itertools.product(*variants.values()):
            yield dict(zip(keys, combination, strict=True))
        return
    nothing = {key: variants[key][0] for key in keys}
    everything = {key: variants[key][-1] for key in keys}
    yield nothing
    yield everything
    # One thing alone that reached the device, or alone did not, is where most orders go wrong.
    alone = [(base, key) for base in (nothing, everything) for key in keys]
    for base, key in rng.sample(alone, min(len(alone), limit // 2)):
        yield base | {key: rng.choice(variants[key])}
    for _ in range(limit // 2):
        yield {key: rng.choice(variants[key]) for key in keys}


def _variants(node: Node, rng: Random, *, ordered: bool) -> list[Variant]:
    """What the device may hold of a node; first nothing of what is owed, last all of it."""
    if node.kind == stat.S_IFDIR:
        return list(_directory_variants(node, ordered=ordered))
    datas = list(_data_variants(node))
    if len(datas) > FILE_VARIANTS:
        datas = [datas[0], *rng.sample(datas[1:-1], FILE_VARIANTS - 2), datas[-1]]
    metas = list(_meta_variants(node))
    return [meta._replace(data=data) for data, meta in itertools.product(datas, metas)]


def _subsets(count: int, *, ordered: bool) -> Iterator[tuple[int, ...]]:
    if ordered:
        yield from (tuple(range(length)) for length in range(count + 1))
    elif count <= SUBSET_LIMIT:
        yield from itertools.chain.from_iterable(itertools.combinations(range(count), n) for n in range(count + 1))
    else:
        yield from (tuple(range(length)) for length in range(count))
        yield from ((one,) for one in range(1, count))
        yield from (tuple(index for index in range(count) if index != one) for one in range(count - 1))
        yield tuple(range(count))


def _directory_variants(node: Node, *, ordered: bool) -> Iterator[dict[str, Node]]:
    operations = [operation for operation in node.lost + node.pending if isinstance(operation, Entries)]
    for subset in _subsets(len(operations), ordered=ordered):
        entries = dict(node.saved_entries)
        for index in subset:
            operations[index].apply(entries)
        yield entries


def _data_variants(node: Node) -> Iterator[bytes]:
    operations = [operation for operation in node.lost + node.pending if isinstance(operation, (Data, Size))]
    seen: set[bytes] = set()
    whole = node.saved
    for operation in operations:
        whole = operation.apply(whole)
    for subset in _subsets(len(operations), ordered=False):
        held = node.saved
        for position, index in enumerate(subset):
            operation = operations[index]
            if position == len(subset) - 1 and isinstance(operation, Data):
                yield from (torn for torn in _torn(held, operation) if not (torn in seen or seen.add(torn)))
            held = operation.apply(held)
        if held.data not in seen and held.data != whole.data:
            seen.add(held.data)
            yield held.data
    yield whole.data


def _torn(held: Saved, write: Data) -> Iterator[bytes]:
    length = len(write.data)
    cuts = {SECTOR, length // 2 // SECTOR * SECTOR, (length - 1) // SECTOR * SECTOR} - {0}
    pieces = [Data(write.offset, write.data[:cut]) for cut in sorted(cuts) if cut < length]
    pieces += [Data(write.offset + cut, write.data[cut:]) for cut in sorted(cuts) if cut < length]
    if write.offset + length > len(held.data):  # it made the file longer
        fresh = max(write.offset, len(held.data))
        pieces.append(Data(fresh, bytes(write.offset + length - fresh)))
    for piece in pieces:
        yield piece.apply(held).data


def _meta_variants(node: Node) -> Iterator[Saved]:
    held = node.saved
    yield held
    for operation in node.lost + node.pending:
        if isinstance(operation, Meta):
            held = operation.apply(held)
            yield held


def _boot(disk: Disk, choice: Choice) -> Disk:
    """A new machine with this on its device."""
    twin = _like(disk)
    copies: dict[int, Node] = {}

    def fill(node: Node, made: Node) -> None:
        held = choice.get(id(node))
        saved = held if isinstance(held, Saved) else node.saved
        entries = held if isinstance(held, dict) else node.saved_entries
        made.now = made.saved = saved
        made.mtime, made.ctime = node.mtime, node.ctime
        for name, child in entries.items():
            known = copies.get(id(child))
            if known is None:
                known = copies[id(child)] = Node(child.kind, child.number, child.saved, child.target)
                fill(child, known)
            made.entries[name] = made.saved_entries[name] = known

    fill(disk.root, twin.root)
    _count(twin)
    return twin


def _count(disk: Disk) -> None:
    """Link counts and inode numbers, as a file-system check sets them right."""
    disk.numbers = {disk.root.number}
    seen: set[int] = set()
    todo = [disk.root]
    while todo:
        for child in todo.pop().entries.values():
            child.links += 1
            if id(child) in seen:
                continue
            seen.add(id(child))
            if child.number in disk.numbers:
                child.number = max(disk.numbers) + 1
            disk.numbers.add(child.number)
            todo.append(child)
