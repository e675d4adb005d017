"""Whole files by libraries that promise atomic writes, and by none."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from lab.workloads.slots import NAMES, Slots

if TYPE_CHECKING:
    from pathlib import Path


class Plain(Slots):
    """``open(path, "w")``."""

    errors = (Exception,)

    def open(self, directory: Path) -> None:
        self._directory = directory

    def path(self, name: str) -> Path:
        return self._directory / hashlib.sha256(name.encode()).hexdigest()[:8]

    def put(self, name: str, text: str) -> None:
        self.path(name).write_text(text)

    def get(self, name: str) -> list[str]:
        try:
            return [self.path(name).read_text()]
        except FileNotFoundError:
            return []


class AtomicWrites(Plain):
    """The library of that name."""

    def put(self, name: str, text: str) -> None:
        from atomicwrites import atomic_write

        with atomic_write(str(self.path(name)), overwrite=True) as file:
            file.write(text)


class Coherent(Plain):
    """agent-coherence's volume. The first process that opens it serves those that come later."""

    def start(self) -> None:
        super().start()
        from ccs.adapters.coherent_volume import CoherentVolume

        self._volume = CoherentVolume(self._directory, managed=("*",))

    def put(self, name: str, text: str) -> None:
        self._volume.write(self.path(name), text.encode())

    def add(self, number: int) -> None:
        path = self.path(NAMES[0])
        if not path.exists():
            path.touch()
        self._volume.write_cas(path, lambda data: data + f"{number} ".encode())
