"""Claude Code's writes land: a hook that keeps agents off each other's bytes and checks what "successfully" claims.

`adapter` turns a hook's JSON into a call and an answer into JSON, `guard` decides, `ledger` remembers what each agent
has seen and written, `expected` says what a tool's response promises to be on the disk. `hook` is the program that
Claude Code starts, `cli` the command ``landed-hook``.
"""

from __future__ import annotations

__version__ = "0.1.0"
