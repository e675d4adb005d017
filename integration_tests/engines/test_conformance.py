"""The engines beyond one machine pass the seam's one conformance suite, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest
from collection_conformance import CollectionConformance, OpenCollection
from engine_conformance import LogConformance, OpenLog

if TYPE_CHECKING:
    from landed.engine import Log


def opening(make: OpenLog) -> Iterator[OpenLog]:
    """Opens handles, and closes them when the test has ended."""
    opened: list[Log] = []

    def open_(max_bytes: int | None = None) -> Log:
        opened.append(make(max_bytes=max_bytes))
        return opened[-1]

    yield open_
    for log in opened:
        log.close()


class TestPostgres(LogConformance):
    @pytest.fixture
    def open_log(self, postgres_url: str) -> Iterator[OpenLog]:
        from landed.postgres.log import PostgresLog

        yield from opening(partial(PostgresLog, postgres_url))


class TestPostgresCollection(CollectionConformance):
    @pytest.fixture
    def open_collection(self, postgres_url: str) -> OpenCollection:
        from landed.postgres.collection import PostgresCollection

        return lambda: PostgresCollection(postgres_url)


class OnObjects(LogConformance):
    @pytest.fixture
    def url(self, s3_url: str) -> str:
        return s3_url

    @pytest.fixture
    def open_log(self, url: str) -> Iterator[OpenLog]:
        from landed.objects.log import ObjectLog

        yield from opening(partial(ObjectLog, url))


class TestS3(OnObjects):
    pass


class TestAzure(OnObjects):
    @pytest.fixture
    def url(self, azure_url: str) -> str:
        return azure_url


class TestGoogleStandIn(OnObjects):
    @pytest.fixture
    def url(self, google_url: str) -> str:
        return google_url


class TestS3Collection(CollectionConformance):
    @pytest.fixture
    def url(self, s3_url: str) -> str:
        return s3_url

    @pytest.fixture
    def open_collection(self, url: str) -> OpenCollection:
        from landed.objects.collection import ObjectCollection

        return lambda: ObjectCollection(url)


class TestAzureCollection(TestS3Collection):
    @pytest.fixture
    def url(self, azure_url: str) -> str:
        return azure_url


class TestGoogleStandInCollection(TestS3Collection):
    @pytest.fixture
    def url(self, google_url: str) -> str:
        return google_url
