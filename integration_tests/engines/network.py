"""Several hosts on one machine: network namespaces, each joined by a cable to one where the servers run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWNET = 0x40000000
NAMES = Path("/run/netns")


def missing() -> str:
    """Why namespaces cannot be had here; "" when they can."""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "hosts need the programs ip and unshare (Debian: apt-get install iproute2 util-linux)"
    if os.geteuid() != 0 or subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        return "hosts need network namespaces, which take root"
    tried = subprocess.run(["ip", "netns", "list"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"hosts need ip netns: {tried.stderr.decode()}"


class Network:
    """A namespace for servers and one for each host, which reaches the servers at an address of its own.

    Args:
        hosts: how many.
    """

    def __init__(self, hosts: int) -> None:
        self._prefix = f"landed-{os.getpid()}"
        self.hub = f"{self._prefix}-hub"
        self._add(self.hub)
        for host in range(hosts):
            self._add(self.name(host))
            here, there = f"hub{host}", "eth0"
            self._ip("-n", self.hub, "link", "add", here, "type", "veth", "peer", there, "netns", self.name(host))
            for namespace, end, last in ((self.hub, here, 1), (self.name(host), there, 2)):
                self._ip("-n", namespace, "address", "add", f"10.77.{host}.{last}/30", "dev", end)
                self._ip("-n", namespace, "link", "set", end, "up")

    def name(self, host: int) -> str:
        return f"{self._prefix}-{host}"

    def server_of(self, host: int) -> str:
        """The address at which a host reaches the servers."""
        return f"10.77.{host}.1"

    def cut(self, host: int, *, down: bool = True) -> None:
        """Pull a host's cable, or plug it in again."""
        self._ip("-n", self.hub, "link", "set", f"hub{host}", "down" if down else "up")

    def pause(self, host: int, *, paused: bool = True) -> None:
        """Let a host answer nothing, as one that is paused; its cable stays in."""
        self._ip("-n", self.name(host), "route", "add" if paused else "del", "blackhole", self.server_of(host))

    @contextlib.contextmanager
    def inside(self, namespace: str) -> Iterator[None]:
        """This thread, and the processes that it starts, are in a namespace."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(NAMES / namespace, os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(here)
            os.close(here)
            os.close(there)

    def remove(self) -> None:
        for path in NAMES.glob(f"{self._prefix}-*"):
            self._ip("netns", "delete", path.name)

    def _add(self, namespace: str) -> None:
        self._ip("netns", "add", namespace)
        self._ip("-n", namespace, "link", "set", "lo", "up")

    @staticmethod
    def _ip(*words: str) -> None:
        done = subprocess.run(["ip", *words], capture_output=True, check=False)
        assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.decode()}"


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
