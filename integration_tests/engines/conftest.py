"""The servers of the engines' tests: one for a run, started on loopback; a journal of its own for each test."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from azure_server import CONTAINER, AzureServer, installed
from google_server import BUCKET as GOOGLE_BUCKET
from google_server import GoogleServer
from postgres_server import PostgresServer, binaries
from s3_server import BUCKET, S3Server, environment
from wire import Wire

if TYPE_CHECKING:
    import psycopg

ROOT = Path(__file__).parents[2]
# The conformance suite; CrewAI's suites, and what silences it; LangGraph's suites.
SUITES = (
    "shared_core/tests",
    "packages/crewai-landed/tests",
    "integration_tests/crewai",
    "packages/langgraph-checkpoint-landed/tests",
    "integration_tests/langgraph",
)
sys.path.extend(str(ROOT / tests) for tests in SUITES)

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    for module in (r"crewai(_core|_memory_core)?\b", r"lancedb\b", r"pydantic\b"):
        config.addinivalue_line("filterwarnings", f"ignore:::{module}")


def running_postgres() -> Iterator[PostgresServer]:
    """A server of its own, for as long as the fixture lasts that gives it."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    server = PostgresServer(programs)
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    yield from running_postgres()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    return postgres.url(f"test-{next(_numbers)}")


@pytest.fixture
def postgres_wire(postgres: PostgresServer) -> Iterator[Wire]:
    relay = Wire(postgres.port)
    yield relay
    relay.close()


@pytest.fixture
def postgres_wired(postgres_url: str, postgres: PostgresServer, postgres_wire: Wire) -> str:
    """The same journal as `postgres_url`, by way of the relay."""
    return postgres_url.replace(str(postgres.port), str(postgres_wire.port))


@pytest.fixture
def sql(postgres: PostgresServer) -> Iterator[psycopg.Connection]:
    import psycopg

    with psycopg.connect(postgres.conninfo, autocommit=True) as connection:
        yield connection


@pytest.fixture
def risky(postgres: PostgresServer, sql: psycopg.Connection) -> Iterator[str]:
    """A role whose settings a test may change, as no pool of another test connects with it."""
    from landed.engines import open_log

    open_log(postgres.url("first"))  # which makes the tables, and owns them
    sql.execute("CREATE ROLE risky LOGIN SUPERUSER")
    yield "risky"
    sql.execute("DROP OWNED BY risky")
    sql.execute("DROP ROLE risky")


@pytest.fixture(scope="session")
def restarting() -> Iterator[PostgresServer]:
    """A server for the tests that kill it and start it again."""
    yield from running_postgres()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    pytest.importorskip("obstore", reason="obstore is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    server = S3Server()
    with environment(server.endpoint):
        yield server
    server.kill()


@pytest.fixture
def s3_url(s3: S3Server) -> str:
    return f"s3://{BUCKET}/test-{next(_numbers)}"


@pytest.fixture(scope="session")
def s3_kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server for the tests that kill it and start it again."""
    pytest.importorskip("obstore", reason="obstore is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    server = S3Server(keeps=tmp_path_factory.mktemp("s3") / "kept")
    yield server
    server.kill()


@pytest.fixture
def s3_kept_url(s3_kept: S3Server) -> Iterator[str]:
    with environment(s3_kept.endpoint):
        yield f"s3://{BUCKET}/test-{next(_numbers)}"


@pytest.fixture
def s3_wire(s3: S3Server) -> Iterator[Wire]:
    relay = Wire(s3.port)
    yield relay
    relay.close()


@pytest.fixture
def s3_wired(s3_url: str, s3_wire: Wire) -> Iterator[str]:
    """The environment leads to the store by way of the relay."""
    with environment(f"http://127.0.0.1:{s3_wire.port}"):
        yield s3_url


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


@pytest.fixture(scope="session")
def google() -> Iterator[GoogleServer]:
    pytest.importorskip("obstore", reason="obstore is not installed")
    server = GoogleServer()
    with server.environment():
        yield server
    server.stop()


@pytest.fixture
def google_url(google: GoogleServer) -> str:
    return f"gs://{GOOGLE_BUCKET}/test-{next(_numbers)}"
