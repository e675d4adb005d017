"""`landed report` of what CrewAI keeps: who saved which state, and what went into a memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from crewai.flow.async_feedback.types import PendingFeedbackContext
from crewai.memory.types import MemoryRecord

import landed
from crewai_landed import LandedFlowPersistence, LandedStorage, reporting
from landed.cli import main
from landed.inspection import journals

OK, LOST = 0, 1


def page_of(directory: Path, page: Path) -> str:
    assert main(["report", str(directory), "--output", str(page)]) == OK
    return page.read_text(encoding="utf-8")


def test_who_saved_which_state_of_a_flow(tmp_path: Path) -> None:
    store = LandedFlowPersistence(tmp_path / "crew")
    waited = PendingFeedbackContext(
        flow_id="one", flow_class="x.Review", method_name="draft", method_output=1, message=""
    )
    store.save_state("one", "collect", {"id": "one", "said": "secret"})
    store.save_pending_feedback("one", waited, {"id": "one"})
    store.clear_pending_feedback("one")
    text = page_of(tmp_path / "crew", tmp_path / "page.html")
    assert "crewai-landed, a flow" in text
    assert "one in " in text, "a flow goes by its id"
    assert f'<span class="who">pid {os.getpid()} on ' in text
    for what in (
        "record 1: a state, after collect",
        "record 2: a state, and the feedback that draft waits for",
        "record 3: took the feedback that draft waited for",
    ):
        assert what in text
    assert "secret" not in text


def test_what_went_into_a_memory(tmp_path: Path) -> None:
    storage = LandedStorage(tmp_path / "crew")
    storage.save([MemoryRecord(id="a", content="secret", scope="/plant", source="scout", embedding=[1.0, 0.0])])
    storage.update(MemoryRecord(id="a", content="other", scope="/plant", source="scout", embedding=[1.0, 0.0]))
    storage.save([MemoryRecord(id="b", content="secret", embedding=[1.0, 0.0])])
    storage.touch_records(["a"])
    storage.delete(record_ids=["b"])
    text = page_of(tmp_path / "crew", tmp_path / "page.html")
    assert "crewai-landed, a memory" in text
    assert '<span class="who">scout</span>' in text
    for what in ("stored a in scope /plant", "revised a in scope /plant", "stored b in scope /", "a condition on ids"):
        assert what in text
    assert "secret" not in text


@pytest.mark.parametrize("data", [b"", b"plain", b'{"json": 1}', b"[]", b"\x00\x00\x00\x00", bytes(100)])
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 9])
def test_another_journal_is_left_to_others(tmp_path: Path, kind: int, data: bytes) -> None:
    with landed.Journal(tmp_path / "plain") as journal:
        journal.append([landed.Record(data, kind=kind)])
    assert reporting.flows(str(tmp_path / "plain")) is None
    assert reporting.memory(str(tmp_path / "plain")) is None


def test_damage_is_said_and_the_rest_is_told(tmp_path: Path) -> None:
    store = LandedFlowPersistence(tmp_path / "crew")
    for step in range(3):
        store.save_state("one", f"step {step}", {"id": "one"})
    (journal,) = journals(tmp_path)
    (segment,) = Path(journal).glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[data.index(b"step 0")] ^= 1
    segment.write_bytes(data)
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "crew"), "--output", str(page)]) == LOST
    text = page.read_text(encoding="utf-8")
    assert "damaged journal" in text
    assert "a state, after step 0" not in text
    assert "a state, after step 2" in text


def test_each_is_known_from_the_other(tmp_path: Path) -> None:
    LandedFlowPersistence(tmp_path / "crew").save_state("one", "m", {"id": "one"})
    LandedStorage(tmp_path / "crew").save([MemoryRecord(id="a", content="text", embedding=[1.0])])
    told = [(reporting.flows(each) is not None, reporting.memory(each) is not None) for each in journals(tmp_path)]
    assert sorted(told) == [(False, True), (True, False)]


def test_a_report_does_not_import_crewai() -> None:
    code = "import sys, crewai_landed.reporting; sys.exit('crewai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
