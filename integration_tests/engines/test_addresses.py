"""What is told of a place without opening it."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

import pytest

import landed
from landed.engines import absolute, below, is_address, same_place, without_password
from landed.errors import Refused

PLACES = ["postgresql://me@host/database", "postgres://host/database/name", "s3://bucket", "gs://bucket/a", "az://c/a"]


def test_a_directory_becomes_absolute_and_an_address_stays() -> None:
    assert absolute("crew") == os.path.join(os.getcwd(), "crew")
    assert not is_address("crew")
    for place in PLACES:
        assert is_address(place)
        assert absolute(place) == place


@pytest.mark.parametrize("ask", [absolute, is_address, without_password])
def test_a_scheme_that_no_engine_has_is_refused(ask) -> None:
    with pytest.raises(Refused, match="no engine keeps journals at ftp://"):
        ask("ftp://host/crew")


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", " postgresql", "x-y.z"])
def test_what_is_nearly_an_address_is_no_directory(scheme: str) -> None:
    """It would be made, with the password in its name."""
    with pytest.raises(Refused, match="no engine keeps journals at") as refused:
        absolute(f"{scheme}://me:s3cret@host/database")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("place", PLACES)
def test_an_address_that_was_made_a_path_is_refused(place: str) -> None:
    with pytest.raises(Refused, match="one slash is missing"):
        is_address(PurePosixPath(place))
    with pytest.raises(Refused, match="one slash is missing"):
        landed.write(PurePosixPath(place), b"")


@pytest.mark.parametrize("place", ["s3://buc\tket/a", "postgresql://host/database/a\nb", "az://c/a\r"])
def test_an_address_of_which_something_would_be_dropped_is_refused(place: str) -> None:
    with pytest.raises(Refused, match="a tab or a line break"):
        landed.read(place)


@pytest.mark.parametrize("name", ["%FF", "a%C3", "\udcff"])
@pytest.mark.parametrize("root", ["s3://bucket", "postgresql://host/database"])
def test_an_address_that_is_no_text_is_refused(root: str, name: str) -> None:
    """Any two of them would lead to one place."""
    with pytest.raises(Refused, match="is UTF-8"):
        landed.read(f"{root}/{name}")


@pytest.mark.parametrize("place", ["a:/b", "/a:/b", "./s3:/a", "/x/s3://b", "C:/crew", "://a", "+://a"])
def test_other_paths_stay_paths(place: str) -> None:
    assert not is_address(place)


@pytest.mark.parametrize(
    ("place", "longer"),
    [
        ("/crew", os.path.join("/crew", "flows")),
        ("postgresql://host/database", "postgresql://host/database/flows"),
        ("postgresql://me:pw@host/database/crew/?unsafe=yes", "postgresql://me:pw@host/database/crew/flows?unsafe=yes"),
        ("s3://bucket", "s3://bucket/flows"),
        ("s3://bucket/crew/", "s3://bucket/crew/flows"),
    ],
)
def test_below(place: str, longer: str) -> None:
    assert below(place, "flows") == longer


@pytest.mark.parametrize("place", ["postgresql://host", "postgresql:///", "postgresql://host?user=me"])
def test_what_is_below_no_database_would_name_one(place: str) -> None:
    with pytest.raises(Refused, match="names no database"):
        below(place, "flows")


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("postgresql://me:s3cret@host:1/database/a?unsafe=yes", "postgresql://me@host:1/database/a?unsafe=yes"),
        ("postgresql://host/database?user=me&password=s3cret", "postgresql://host/database?user=me"),
        ("postgresql://host/d?sslpassword=s3cret", "postgresql://host/d"),
        ("postgresql://h/d?options=-c%20x%3Da+b&password=s3cret", "postgresql://h/d?options=-c%20x%3Da%2Bb"),
        ("postgresql://:s3cret@host/d", "postgresql://@host/d"),
        *((place, place) for place in [*PLACES, "/crew"]),
    ],
)
def test_no_password_is_written_down(place: str, shown: str) -> None:
    assert without_password(place) == shown


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("s3://bucket/x", "s3://bucket/x/", True),
        ("s3://bucket/x", "s3://bucket/y", False),
        ("s3://bucket/x", "gs://bucket/x", False),
        ("postgresql://me@db/agents/x", "postgres://me@db/agents/x/", True),
        ("postgresql://me@db/agents/x", "postgresql://me@db/agents/y", False),
        ("postgresql:///agents/x?host=a", "postgresql:///agents/x?host=b", False),
        ("postgresql://me@db/agents/x", "agents/x", False),
    ],
)
def test_which_addresses_are_one_place(one: str, other: str, same: bool) -> None:
    assert same_place(one, other) is same
