"""A state comes back as it was given, or is refused with the place that cannot be stored."""

from __future__ import annotations

import dataclasses
import json
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr, field_serializer

from crewai_landed import states
from landed import Corrupt, Refused

WHEN = datetime(2026, 1, 2, tzinfo=timezone.utc)


class Colour(Enum):
    RED = "red"


class Inner(BaseModel):
    when: datetime
    tags: set[str]


@dataclasses.dataclass
class Point:
    x: int
    at: date


def back(value: Any) -> Any:
    return states.decode(states.encode(value).encode())


VALUES = [
    datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc),
    datetime(2026, 1, 2),  # noqa: DTZ001 - it has none, and must get none
    date(2026, 1, 2),
    time(1, 2, 3),
    timedelta(days=-1, seconds=2, microseconds=3),
    UUID(int=7),
    Decimal("1.10"),
    complex(1, -2),
    b"\x00\xff",
    bytearray(b"x"),
    Path("a/b"),
    (1, ("two", None)),
    {1, 2},
    frozenset({"a"}),
    {1: "one", (2, 3): "pair"},
    {"$landed": "datetime", "value": "mine"},
    "\ud800",
    1e308,
    10**30,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_json_does_not_have_comes_back(value: Any) -> None:
    found = back({"a": [value]})["a"][0]
    assert found == value
    assert type(found) is type(value) or isinstance(value, Path)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
LEAVES = PLAIN | st.datetimes() | st.uuids() | st.binary() | st.decimals(allow_nan=False) | st.timedeltas()
KEYS = st.text() | st.integers() | st.sampled_from(["$landed", "value"])


@given(
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.lists(inner).map(tuple) | st.sets(st.text()),
    )
)
def test_anything_made_of_these_comes_back(value: Any) -> None:
    assert back(value) == value


def test_plain_states_are_plain_json() -> None:
    state = {"id": "x", "n": [1, 2.5, None, True], "nested": {"a": "b"}}
    assert json.loads(states.encode(state)) == state


def test_models_dataclasses_and_enumerations_become_what_they_hold() -> None:
    state = {
        "model": Inner(when=WHEN, tags={"a"}),
        "point": Point(1, date(2026, 1, 2)),
        "c": Colour.RED,
    }
    assert back(state) == {
        "model": {"when": WHEN, "tags": {"a"}},
        "point": {"x": 1, "at": date(2026, 1, 2)},
        "c": "red",
    }


class Custom:
    pass


class WithCustom(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    custom: Custom
    n: int = 1

    @field_serializer("custom", when_used="json")
    def _as_text(self, _: Custom) -> str:
        return "custom"


def test_a_model_that_knows_how_it_is_json_is_asked() -> None:
    assert back({"m": WithCustom(custom=Custom())}) == {"m": {"custom": "custom", "n": 1}}


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int


class FrozenModel(BaseModel, frozen=True):
    x: int


class Number(Enum):
    ONE = 1


class Other(Enum):
    ONE = 1


class WithSecret(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    custom: Custom | None = None
    deep: list[Any] = []
    key: SecretStr | None = None

    @field_serializer("custom", when_used="json")
    def _as_text(self, _: Custom) -> str:
        return "custom"


def test_a_text_that_looks_like_a_masked_secret_is_a_text() -> None:
    model = WithSecret(custom=Custom(), deep=["*" * 10, {"text": "*" * 10}])
    assert back(model) == {"custom": "custom", "deep": model.deep, "key": None}


class WithSet(BaseModel):
    members: set[FrozenModel]


def test_a_model_with_a_set_of_models_comes_back() -> None:
    """Pydantic cannot give it as it is: a set of dictionaries there is not."""
    model = WithSet(members={FrozenModel(x=1), FrozenModel(x=2)})
    assert WithSet.model_validate(back(model)) == model


def test_members_of_an_enumeration_may_be_members_of_a_set_and_keys() -> None:
    assert back({"a": {Colour.RED, "blue"}, "b": {Number.ONE: 1}}) == {"a": {"red", "blue"}, "b": {1: 1}}


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"a": {"b": [1, object()]}}, r"a\['b'\]\[1\] is a builtins.object"),
        ({"f": print}, r"f is a builtins.builtin_function_or_method"),
        ({"a": {object(): 1}}, r"a key of a is a builtins.object"),
        ({"a": {Frozen(1)}}, r"a\[...\] .* cannot be a member of a set"),
        ({"a": [frozenset({(1, FrozenModel(x=1))})]}, r"a\[0\]\[...\] .* cannot be a member of a set"),
        ({"a": {Frozen(1): 2}}, r"a key of a .* cannot be"),
        ({"a": {Number.ONE, Other.ONE}}, r"a\[...\].* come back as one"),
        ({"a": {Number.ONE: 1, Other.ONE: 2}}, r"a key of a.* come back as one"),
        ({"a": {(Number.ONE,): 1, (1,): 2}}, r"a key of a.* come back as one"),
        ({"a": WithSecret(key=SecretStr("hunter2"))}, r"a\['key'\] is a secret"),
        ({"a": WithSecret(deep=[{"key": SecretBytes(b"hunter2")}])}, r"a\['deep'\]\[0\]\['key'\] is a secret"),
        ({"a": WithSecret(custom=Custom(), key=SecretStr("hunter2"))}, r"a\['key'\] is a secret"),
        ({"a": 10**5000}, r"digits"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_place(state: Any, where: str) -> None:
    with pytest.raises(Refused, match=where):
        states.encode(state)


def test_a_state_that_refers_to_itself_is_refused() -> None:
    state: dict[str, Any] = {}
    state["self"] = state
    with pytest.raises(Refused, match="refers to itself"):
        states.encode(state)


@pytest.mark.parametrize(
    "text", ['{"$landed":"nothing","value":1}', '{"$landed":"uuid","value":"x"}', "{", '{"$landed":"set"}']
)
def test_what_encode_did_not_make_is_corrupt(text: str) -> None:
    with pytest.raises(Corrupt, match="cannot be read"):
        states.decode(text.encode())
