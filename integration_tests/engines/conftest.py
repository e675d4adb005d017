"""The servers of the engines' tests: one for a run, started on loopback; a journal of its own for each test."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure_server import CONTAINER, AzureServer, installed
from postgres_server import PostgresServer, binaries
from s3_server import BUCKET, S3Server, environment

ROOT = Path(__file__).parents[2]
# The conformance suite; CrewAI's suites, and what silences it.
for tests in ("shared_core/tests", "packages/crewai-landed/tests", "integration_tests/crewai"):
    sys.path.append(str(ROOT / tests))

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    for module in (r"crewai(_core|_memory_core)?\b", r"lancedb\b", r"pydantic\b"):
        config.addinivalue_line("filterwarnings", f"ignore:::{module}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    server = PostgresServer(programs)
    yield server
    server.remove()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    return postgres.url(f"test-{next(_numbers)}")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    pytest.importorskip("obstore", reason="obstore is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    server = S3Server()
    with environment(server.endpoint):
        yield server
    server.stop()


@pytest.fixture
def s3_url(s3: S3Server) -> str:
    return f"s3://{BUCKET}/test-{next(_numbers)}"


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    pytest.importorskip("obstore", reason="obstore is not installed")
    program = installed()
    if program is None:
        pytest.skip("Azurite cannot be had: it needs npm, and its registry")
    server = AzureServer(program, tmp_path_factory.mktemp("azurite"))
    with server.environment():
        yield server
    server.stop()


@pytest.fixture
def azure_url(azure: AzureServer) -> str:
    return f"az://{CONTAINER}/test-{next(_numbers)}"
