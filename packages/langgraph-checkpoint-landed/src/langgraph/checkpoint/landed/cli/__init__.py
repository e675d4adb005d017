"""What this package adds to ``landed``: ``threads``, ``thread``, ``prune-threads`` and ``import-sqlite``."""
