"""Writers on several hosts, some of them cut off, stopped or killed: what they were told is what is kept.

The hosts are network namespaces. The checker and the writers are those of integration_tests/faults.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from network import Network, missing
from postgres_server import PostgresServer, binaries
from s3_server import BUCKET, S3Server, environment

FAULTS = Path(__file__).parents[1] / "faults"
sys.path.append(str(FAULTS))

import histories  # noqa: E402

HOSTS = 3
GUARD = 120.0
"""Seconds after which a writer hangs."""
ENOUGH = 10
"""Acknowledged writes between two losses."""
READ = """
import json, sys
import landed
if sys.argv[1] == "append":
    records = [entry.data.decode() for entry in landed.Journal(sys.argv[2]).read()]
    assert records[1::2] == [f"and {name}" for name in records[::2]], "a batch is not whole"
    print(json.dumps(records[::2]))
else:
    count, *names = landed.read(sys.argv[2]).text.splitlines()
    assert int(count) == len(names)
    print(json.dumps(names))
"""


WRITE = """
import os, runpy, sys
del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
CONFLICTS_ARE_SUCCESS = """
from landed.objects import group as puts
from landed.postgres import group as statements

def acknowledge(self, proof, name):
    for commit, sequence in zip(self.landing, self._sequences):
        commit.sequence, commit.position = sequence, (sequence, 0)
    return []

puts.Group.found = lambda self, head, objects: self.frames
statements.Group.is_in = lambda self, proof: True
statements.Group.acknowledge = acknowledge
"""


OWNER = """
import sys
import landed
from landed.postgres import server

server.SILENCE = 4_000  # a minute is long for a test
journal = landed.Journal(sys.argv[1]).claim()
journal.append([b"mine"])
print("mine", flush=True)
sys.stdin.readline()
for _ in range(2):
    try:
        journal.append([b"late"])
    except landed.Claimed:
        print("refused")
"""
NEXT = """
import sys, time
import landed

for _ in range(600):
    try:
        landed.Journal(sys.argv[1]).append([b"taken over"])
    except landed.Claimed:
        print("not yet", flush=True)
        time.sleep(0.1)
    else:
        print("taken over", flush=True)
        break
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    why = missing()
    if why:
        pytest.skip(why)
    network = Network(HOSTS)
    yield network
    network.remove()


class Place:
    """An address as each host spells it, and the environment in which it finds the server there."""

    def __init__(self, network: Network, port: int, url: str) -> None:
        self._network = network
        self._port = port
        self._url = url

    def url(self, host: int) -> str:
        return self._url.format(server=f"{self._network.server_of(host)}:{self._port}")

    def environment(self, host: int) -> dict[str, str]:
        with environment(f"http://{self._network.server_of(host)}:{self._port}"):
            return dict(os.environ)


@pytest.fixture(scope="module", params=["postgres", "s3"])
def place(request: pytest.FixtureRequest, network: Network) -> Iterator[Place]:
    if request.param == "s3":
        pytest.importorskip("obstore", reason="obstore is not installed")
        pytest.importorskip("moto", reason="moto is not installed")
        with network.inside(network.hub):
            s3 = S3Server("0.0.0.0")
        yield Place(network, s3.port, f"s3://{BUCKET}/hosts")
        s3.kill()
        return
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    with network.inside(network.hub):
        server = PostgresServer(programs, listen_addresses="'*'")
    with (server.data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 10.77.0.0/16 trust\n")
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    yield Place(network, server.port, "postgresql://landed@{server}/postgres/hosts")
    server.remove()


class Hosts:
    """Writers, one on each host, and their notes.

    Args:
        plant: what each does first: a bug.
    """

    def __init__(self, network: Network, place: Place, how: str, root: Path, plant: str = "") -> None:
        self._network, self._place, self._how, self._plant = network, place, how, plant
        self._notes = root / "notes"
        self._notes.mkdir()
        self._stop = root / "stop"
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self._started = 0

    def start(self, host: int) -> None:
        name = f"w{self._started}"
        self._started += 1
        planted = ("-c", f"{self._plant}\n{WRITE}") if self._plant else ()
        arguments = (name, self._how, self._url(host), str(self._notes / name), str(self._stop))
        self.running[host] = self._program(host, *planted, str(FAULTS / "writer.py"), *arguments)

    def _url(self, host: int) -> str:
        return f"{self._place.url(host)}/{self._how}{'-planted' if self._plant else ''}"

    def _program(self, host: int, *arguments: str, output: int | None = None) -> subprocess.Popen[bytes]:
        with self._network.inside(self._network.name(host)):
            return subprocess.Popen([sys.executable, *arguments], env=self._place.environment(host), stdout=output)

    def attempts(self) -> dict[str, histories.Attempt]:
        return histories.read_notes(sorted(self._notes.iterdir()))

    def wait_for_more(self) -> None:
        """Until so many more were acknowledged."""
        before = sum(self.acked().values())
        self._wait(lambda: sum(self.acked().values()) >= before + ENOUGH)

    def wait_for_everybody(self) -> None:
        """Until each writer that was ever started has got through."""
        self._wait(lambda: len(self.acked()) == self._started)

    @staticmethod
    def _wait(done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GUARD
        while not done():
            assert time.monotonic() < deadline, "nothing goes on"
            time.sleep(0.05)

    def acked(self) -> Counter[str]:
        return Counter(each.worker for each in self.attempts().values() if each.how == histories.ACKED)

    def join(self) -> None:
        self._stop.touch()
        for process in self.running.values():
            assert process.wait(GUARD) == 0

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait(GUARD)

    def stored(self) -> list[str]:
        """As a process that was not there before reads it."""
        with self._program(0, "-c", READ, self._how, self._url(0), output=subprocess.PIPE) as reader:
            output = reader.communicate(timeout=GUARD)[0]
        assert reader.returncode == 0
        names: list[str] = json.loads(output)
        return names


@pytest.mark.parametrize("how", ["append", "cas"])
def test_what_hosts_were_told_is_what_is_kept(network: Network, place: Place, how: str, tmp_path: Path) -> None:
    hosts = Hosts(network, place, how, tmp_path)
    try:
        for host in range(HOSTS):
            hosts.start(host)
        hosts.wait_for_everybody()
        network.cut(0)
        hosts.wait_for_more()
        network.cut(0, down=False)
        hosts.running[1].send_signal(signal.SIGSTOP)
        hosts.wait_for_more()
        hosts.running[1].send_signal(signal.SIGCONT)
        hosts.running[2].kill()
        hosts.running[2].wait(GUARD)
        hosts.start(2)
        hosts.wait_for_everybody()
        hosts.join()
        attempts, stored = hosts.attempts(), hosts.stored()
    finally:
        network.cut(0, down=False)
        hosts.close()
    report = histories.check(attempts, stored)
    assert not report, report


def test_a_planted_bug_is_seen(network: Network, place: Place, tmp_path: Path) -> None:
    hosts = Hosts(network, place, "append", tmp_path, CONFLICTS_ARE_SUCCESS)
    try:
        for host in range(HOSTS):
            hosts.start(host)
        hosts.wait_for_everybody()
        hosts.wait_for_more()
        hosts.join()
        report = histories.check(hosts.attempts(), hosts.stored())
    finally:
        hosts.close()
    assert report.lost


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_an_owner_whose_host_was_paused_is_refused_when_it_wakes_up(network: Network, place: Place) -> None:
    """Nothing ends its connection but the server's own look whether the host is still there."""

    def program(host: int, text: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", text, f"{place.url(host)}/owned"]
        with network.inside(network.name(host)):
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with program(0, OWNER) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "mine\n"
        network.pause(0)
        try:
            with program(1, NEXT) as other:
                *waited, last = other.communicate(timeout=GUARD)[0].splitlines()
        finally:
            network.pause(0, paused=False)
        assert last == "taken over"
        assert waited, "it was not kept out while the owner may still have been there"
        assert owner.communicate("go on\n", timeout=GUARD)[0] == "refused\n" * 2
