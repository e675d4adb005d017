"""What this package adds to the command ``landed``: ``threads``, ``thread`` and ``prune-threads``."""
