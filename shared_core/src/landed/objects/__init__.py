"""Journals in object storage, for programs on many hosts: `pip install "landed[object-store]"`.

    landed.Journal("s3://bucket/events")        # gs://bucket/..., az://container/...

A journal is one small object, its head, which says where the journal ends and holds the newest batches, and the
segments that the head names. An append replaces the head if it is still the one that the writer knows: the store's
conditional put is the compare-and-swap.

| module | its one job |
|---|---|
| `address` | where a journal is: store, bucket, prefix |
| `store` | get, create, replace, delete, list: each either happened, did not, or is not known to have |
| `probe` | prove that a store honours the conditions it claims |
| `head` | the head and the segments, as bytes |
| `segments` | the objects of one journal: read, put, remembered |
| `group` | commits on their way into one head |
| `log` | the `landed.engine.Log`: append by replacing the head, and read it back |
| `compaction` | rewrite segments, then name them in the head |
| `leases` | who owns a journal or a name alone: an object that its owner renews |
| `collection` | many journals under one root |
| `cell` | a whole file: one object, replaced by its ETag |
"""
