"""Journals on local files: the engine that keeps `landed.engine.Log`'s promises with a disk and a kernel lock.

Where to look:

* `log`: append under the lock, flush outside it, verify, acknowledge; roll to a new segment
* `follower`, `doubt`: where the journal ends while others append; what happens after a failed flush
* `directory`: the journal's directory: what is in it, and whether it still is what it was
* `segments`, `full`, `frames`: the files and their bytes; `sizes`, `ahead`: how large they are, and what of it is zeros
* `recovery`: where a segment ends, and whether what follows is a crash's doing or damage
* `reading`, `compaction`: beside appending writers
* `collection`: many journals under one root
* `permissions`: who may use a journal
* `claim`, `pool`: owning a journal alone; how many descriptors stay open
* `survey`, `walk`, `identity`, `salvage`: a journal as it lies on the disk, read past damage, without being opened
"""
