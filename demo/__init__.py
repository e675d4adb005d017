"""The incidents, replayed: first with the pattern each happened to, then with landed.

    python -m demo              live progress, then a table
    python -m demo --json       the same for machines
    python -m demo says_success two_writers

One module per incident. Each has ``CASES``, and ``stock(scene, case)`` and ``landed(scene, case)``, which replay one
with real processes and real kills and return an `Outcome`: what was acknowledged, what was found on the disk, and what
the caller heard. Both replay until the fault was met, up to a bound: a stock side that loses nothing and a landed side
that was never in danger would show nothing.
"""
