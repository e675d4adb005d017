"""A journal in object storage when the store ignores conditions, lies, or damage came to it."""

from __future__ import annotations

import itertools
import logging
import os
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from logs import TIMEOUT, append, held

from landed.engine import Batch
from landed.errors import Corrupt, NotLanded, Refused, StaleWrite, VerifyFailed

pytest.importorskip("obstore", reason="obstore is not installed")

from clients import Counted, Faulty, IgnoresConditions
from google_server import GoogleServer
from obstore.exceptions import GenericError
from s3_server import S3Server, environment
from wire import Wire

from landed.objects import environment as settings
from landed.objects import probe
from landed.objects import store as module
from landed.objects.address import canonical
from landed.objects.log import INLINE_BATCHES, ObjectLog
from landed.objects.store import Store

# Stores that ignore conditions, or lie.


@pytest.mark.parametrize(
    ("kind", "what"), [(str, "creates an object that is there"), (dict, "replaces an object that has changed")]
)
def test_a_store_that_ignores_a_condition_is_refused(
    s3: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch, kind: type, what: str
) -> None:
    from_url = module.from_url
    monkeypatch.setattr(module, "from_url", lambda *args, **kwargs: IgnoresConditions(from_url(*args, **kwargs), kind))
    with pytest.raises(Refused, match=what) as refused:
        ObjectLog(s3_url)
    assert s3.endpoint in str(refused.value)
    monkeypatch.undo()
    with environment(s3.endpoint):
        ObjectLog(s3_url)


def test_google_s_generations_are_asked_for_and_a_server_that_ignores_them_is_refused(
    google: GoogleServer, google_url: str
) -> None:
    log, other = ObjectLog(google_url), ObjectLog(google_url)
    append(log, b"one")
    append(other, b"two", expect=1)
    assert isinstance(append(log, b"stale", expect=1)[0].error, StaleWrite)
    assert held(log) == [b"one", b"two"]
    google.honest = False
    try:
        with pytest.raises(Refused, match="creates an object that is there"):
            ObjectLog(f"{google_url}/elsewhere")
    finally:
        google.honest = True


def test_a_proof_is_made_once_and_anew_at_another_endpoint(s3: S3Server, s3_url: str, s3_wire: Wire) -> None:
    ObjectLog(s3_url)
    probe._proved.clear()
    store = Store(s3_url)
    store._client = Counted(store._client)
    probe.prove(store, TIMEOUT)
    assert store._client.requests == ["get"]
    with environment(f"http://127.0.0.1:{s3_wire.port}"):
        other = Store(s3_url)
        other._client = Counted(other._client)
        probe.prove(other, TIMEOUT)
        assert len(other._client.requests) > 5


@pytest.mark.parametrize("lie", ["nothing was put", "other bytes were put"])
def test_a_lying_store_is_found_out_in_the_append(s3_url: str, lie: str) -> None:
    log = ObjectLog(s3_url)
    append(log, b"one")
    client = log.objects.store._client

    class Liar:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def put(self, key: str, data: bytes, **kwargs: Any) -> Any:
            if lie == "nothing was put":
                return {"e_tag": '"made up"', "version": None}
            head = log._known.head.copy()
            head.tail += 1
            return client.put(key, head.encode(), **kwargs)

    log.objects.store._client = Liar()
    assert isinstance(append(log, b"two")[0].error, VerifyFailed)


@pytest.mark.parametrize("lie", ["nothing was put", "other bytes were put"])
@pytest.mark.parametrize("how", ["append", "compact"])
def test_a_segment_that_is_not_there_is_named_by_no_head(s3_url: str, lie: str, how: str) -> None:
    log = ObjectLog(s3_url)
    before = [b"%d" % number for number in range(INLINE_BATCHES)]
    append(log, *before)

    def fault(put: Callable[[], Any], key: str) -> Any:
        if not key.startswith("segments/") or key.endswith("compaction"):
            return put()
        if lie == "other bytes were put":
            client._client.put(key, b"other")
        return {"e_tag": '"made up"', "version": None}

    client = Faulty(log, fault)
    step = (lambda: append(log, b"one more")) if how == "append" else lambda: log.rewrite(_keep, TIMEOUT)
    with pytest.raises(NotLanded):
        step()
    client.mend()
    assert held(ObjectLog(s3_url)) == before


def _keep(batch: Batch) -> bytes:
    return batch.payload


def test_damage_is_corrupt_and_never_an_empty_journal(s3_url: str) -> None:
    log = ObjectLog(s3_url)
    append(log, *(b"%d" % number * 100 for number in range(2 * INLINE_BATCHES)))
    client = log.objects.store._client
    (segment, *_), head = [key for key, _, _ in log.objects.store.list("segments/")], log.objects.key
    whole = {key: bytes(client.get(key).bytes()) for key in (segment, head)}
    for key, data in whole.items():
        for damaged in (data[:-1], data[:20], b"x" + data[1:], data[:-30] + b"y" + data[-29:]):
            client.put(key, damaged)
            with pytest.raises(Corrupt):
                held(ObjectLog(s3_url))
        client.put(key, data)
    client.delete(segment)
    with pytest.raises(Corrupt):
        held(ObjectLog(s3_url))
    with pytest.raises(Corrupt):
        list(ObjectLog(s3_url).newest_first())


def test_a_store_that_is_asked_too_much_while_it_is_tried_is_asked_again(s3_url: str) -> None:
    store, puts = Store(s3_url), itertools.count()

    def fault(put: Callable[[], Any], _: str) -> Any:
        if next(puts) in {0, 5}:  # the first of the trial, and the proof
            raise GenericError("503 Slow Down")
        return put()

    Faulty(store, fault)
    probe.prove(store, TIMEOUT)
    assert [key for key, _, _ in store.list("")] == [probe.PROOF]


# Secrets, forks, addresses.


def test_credentials_are_nowhere_to_be_seen(s3_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    log = ObjectLog(s3_url)
    append(log, b"one")
    errors = []
    with environment("http://127.0.0.1:1"), pytest.raises(NotLanded) as error:
        ObjectLog("s3://elsewhere/j", timeout=0.5)
    errors.append(error.value)
    for server in ("http://key:word@127.0.0.1:1", "http://127.0.0.1:1/?token=word"):
        with environment(server), pytest.raises(Refused) as error:
            ObjectLog("s3://elsewhere/j", timeout=0.5)
        errors.append(error.value)
    for broken in ("s3://key:word@bucket/j", "s3://bucket/j?secret=word", "s3:///j", "s3://bucket/a/../b", "az://"):
        with pytest.raises(Refused) as refused:
            ObjectLog(broken)
        errors.append(refused.value)
    for each in errors:
        assert secret not in f"{each} {each!r} {each.__dict__} {each.__cause__}"
        assert "word" not in f"{each} {each!r} {each.__dict__} {each.__cause__}"
    assert secret not in caplog.text


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        ("s3", "AWS_ENDPOINT"),
        ("az", "AZURE_STORAGE_ENDPOINT"),
        ("s3", "AWS_METADATA_ENDPOINT"),
        ("s3", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ("gs", "GOOGLE_BASE_URL"),
        ("gs", "GCE_METADATA_IP"),
        ("az", "AZURE_STORAGE_AUTHORITY_HOST"),
        ("az", "AZURE_AUTHORITY_HOST"),
        ("az", "AZURE_MSI_ENDPOINT"),
        ("az", "AZURE_IDENTITY_ENDPOINT"),
        ("az", "IDENTITY_ENDPOINT"),
        ("az", "AZURE_FABRIC_TOKEN_SERVICE_URL"),
        ("az", "AZURITE_BLOB_STORAGE_URL"),
    ],
)
def test_a_server_with_a_password_in_its_address_is_refused_by_the_name_of_its_setting(
    monkeypatch: pytest.MonkeyPatch, scheme: str, name: str
) -> None:
    """Beside another that has none; and one that the client would not understand, and show at once."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv(name, "http://key:s3cret@127.0.0.1:port")
    with pytest.raises(Refused, match=rf"\b{name} ") as refused:
        ObjectLog(f"{scheme}://bucket/j", timeout=0.5)
    assert "s3cret" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("name", settings.SENT["s3"])
def test_a_setting_that_ends_with_a_line_is_refused_by_its_name(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "secret\n")  # at which the client panics, with what is no Exception
    with pytest.raises(Refused, match=name) as refused:
        ObjectLog(s3_url)
    assert "secret" not in str(refused.value)


def test_a_forked_child_is_refused_and_does_not_hang(s3_url: str) -> None:
    log = ObjectLog(s3_url)
    append(log, b"parent")
    child = os.fork()
    if child == 0:
        try:
            append(log, b"child")
            os._exit(1)
        except Refused as refused:
            os._exit(0 if "spawn" in refused.hint else 2)
        except BaseException:  # noqa: BLE001 - a forked child reports by its exit status
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    append(log, b"parent again", expect=1)
    assert held(log) == [b"parent", b"parent again"]


def test_address() -> None:
    assert canonical("s3://b") == "s3://b"
    assert canonical("gs://b/a/c/") == "gs://b/a/c"
    assert canonical("az://container/%C3%A4") == "az://container/%C3%A4"
