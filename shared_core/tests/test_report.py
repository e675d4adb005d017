"""`landed report`: what the page says, and that nothing a name or a program can contain gets out of its text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

import landed
from landed import log, shelf
from landed.cli import main
from landed.cli import output as console
from landed.report import model
from landed.report.model import BAD, GOOD, Event, Report, Section, Timeline
from landed.report.page import TEXT_LIMIT, render

HOSTILE = [
    "<script>alert(1)</script>",
    "\"onmouseover='alert(1)'",
    "]]>--><!--&lt;&#60;",
    "\u202egnp.md",
    "line\nbreak\ttab\x1b[31m",
    "half \udcff of a pair",
    "</style></title></svg>",
    "x" * 4000,
]
VOID = {"meta", "line"}


class Reader(HTMLParser):
    """What a browser would see: which elements, with which attributes, and what text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def page_of(directory: Path, *words: str) -> tuple[int, Reader]:
    page = directory.parent / "page.html"
    code = main(["report", str(directory), "--output", str(page), *words])
    return code, Reader(page.read_text(encoding="utf-8"))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LANDED_STATE_DIR", str(tmp_path / "state"))
    made = tmp_path / "work"
    made.mkdir()
    return made


def test_who_wrote_who_was_refused_and_what_was_verified(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = landed.write(work / "plan.md", "one")
    landed.write(work / "plan.md", "two")
    with pytest.raises(landed.StaleWrite):
        landed.write(work / "plan.md", "three", expect=first)
    with landed.Journal(work / "events") as journal:
        journal.append([b"one", b"two"])
    code, page = page_of(work)
    assert code == console.OK
    assert f"expected {first.version}, found 2-" in page.text
    assert "2 written and verified, 1 refused, 1 held against the disk" in page.text
    assert f"pid {os.getpid()} on" in page.text
    assert "2 records up to number 2" in page.text
    assert "2 artifacts" in capsys.readouterr().out


def test_bad_news_come_first_and_count(work: Path) -> None:
    for name in ("kept", "gone", "changed"):
        landed.write(work / name, "one")
    (work / "gone").unlink()
    (work / "changed").write_text("other")
    code, page = page_of(work)
    assert code == console.BAD_NEWS
    assert page.text.index("changed") < page.text.index("/kept")
    assert "lost: the file is gone" in page.text
    assert "bypassed: 5 bytes that something outside landed put there" in page.text
    assert "1 kept" in page.text
    assert "2 not kept" in page.text


def test_all_its_times_are_utc(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kept", "changed"):
        landed.write(work / name, "one")
    (work / "changed").write_text("other")
    begun = time.time()
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "EAST-9")
        time.tzset()
        _, page = page_of(work)
    time.tzset()
    hours = {time.strftime("%Y-%m-%d %H", time.gmtime(at)) for at in (begun - 60, begun, time.time())}
    assert set(re.findall(r"\d{4}-\d\d-\d\d \d\d(?=:)", page.text)) <= hours


def test_what_changed_last_comes_first(work: Path) -> None:
    for name in ("c", "a", "b"):
        landed.write(work / name, "one")
        time.sleep(0.01)  # the log knows milliseconds
    text = page_of(work)[1].text
    assert sorted("abc", key=lambda name: text.index(f"{work}/{name}")) == ["b", "a", "c"]


def test_a_writer_that_died(work: Path) -> None:
    code = f"""
import os, signal, landed
from landed import _fs
class Dies(_fs.FileOps):
    def rename(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)
landed.write({str(work / "plan.md")!r}, b"one")
landed.Files(Dies()).write({str(work / "plan.md")!r}, b"two", expect=landed.ANY)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode < 0
    code, page = page_of(work)
    assert code == console.BAD_NEWS
    assert "it has no end yet" in page.text
    assert "its owner is dead" in page.text


def test_damage_in_a_journal(work: Path) -> None:
    with landed.Journal(work / "events") as journal:
        for number in range(20):
            journal.append([b"record %d" % number])
    (segment,) = (work / "events").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[data.index(b"record 3")] ^= 1
    segment.write_bytes(data)
    code, page = page_of(work)
    assert code == console.BAD_NEWS
    assert "damaged journal" in page.text


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_gets_out_of_its_text(name: str) -> None:
    event = Event(model.LANDED, name, name, 1.0)
    timeline = Timeline(name, GOOD, name, [event], facts=[(name, name)])
    page = render(Report(name, name, 1.0, [Section(name, name, [timeline], {GOOD: 1})], [name]))
    page.encode()  # a file of UTF-8
    seen = Reader(page)
    assert seen.open == []
    plain = Reader(render(_plain()))
    assert [tag for tag, _ in seen.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(found) for _, found in seen.elements] == [sorted(found) for _, found in plain.elements]
    assert all(char.isprintable() or char == "\n" for char in page)
    assert len(page) < len(render(_plain())) + 20 * 12 * TEXT_LIMIT


def _plain() -> Report:
    timeline = Timeline("a", GOOD, "a", [Event(model.LANDED, "a", "a", 1.0)], facts=[("a", "a")])
    return Report("a", "a", 1.0, [Section("a", "a", [timeline], {GOOD: 1})], ["a"])


def test_hostile_names_on_the_disk(work: Path) -> None:
    for name in HOSTILE[:6]:
        landed.write(work / name.replace("/", "_"), "one")
    code, page = page_of(work)
    assert code == console.OK
    assert not {tag for tag, _ in page.elements} & {"script", "a", "img", "iframe", "link", "object"}
    assert "<script>alert(1)<_script>" in page.text


def test_the_page_needs_nothing_else(work: Path) -> None:
    landed.write(work / "plan.md", "one")
    _, page = page_of(work)
    attributes = {name for _, found in page.elements for name in found}
    assert not attributes & {"src", "href", "onload", "onclick", "style", "xlink:href"}
    text = (work.parent / "page.html").read_text()
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text


def test_limits_are_kept_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "TIMELINES_SHOWN", 10)
    monkeypatch.setattr(model, "EVENTS_SHOWN", 5)
    section = Section("files")
    for number in range(30):
        events = [Event(model.LANDED, "a", str(at), at) for at in range(number % 9)]
        section.add(Timeline(f"f{number}", BAD if number == 7 else GOOD, "said", events))
        assert len(section.timelines) < 20
    section.cut()
    assert section.timelines[0].name == "f7"
    assert len(section.timelines) == 10
    assert max(len(timeline.events) for timeline in section.timelines) == 5
    page = Reader(render(Report("all", "", 1.0, [section])))
    assert "20 more are counted above and not shown" in page.text
    assert "30 in all" in page.text
    assert "The latest 5; 2 earlier ones are not shown." in page.text


def test_a_report_is_replaced_and_nothing_else(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    landed.write(work / "plan.md", "one")
    page = work.parent / "page.html"
    assert page_of(work)[0] == console.OK
    assert page_of(work)[0] == console.OK
    page.write_text("mine")
    assert main(["report", str(work), "--output", str(page)]) == console.BAD_NEWS
    assert page.read_text() == "mine"
    assert "no report" in capsys.readouterr().err


def test_of_what_never_was_no_page_is_made(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(work / "misspelt")]) == 1
    assert "landed has no record of it" in capsys.readouterr().err
    assert not (work / "landed-report.html").exists()


def test_it_prints_and_it_is_for_machines(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    landed.write(work / "plan.md", "one")
    assert main(["report", str(work), "--output", "-"]) == console.OK
    assert capsys.readouterr().out.startswith("<!doctype html>")
    for output, path in ((str(work.parent / "page.html"),) * 2, ("-", None)):
        assert main(["report", str(work), "--json", "--output", output]) == console.OK
        document = json.loads(capsys.readouterr().out)
        assert (document["path"], document["total"]) == (path, 1)
        events = document["sections"][0]["timelines"][0]["events"]
        assert [re.sub(r"\d", "0", event["at"]) for event in events] == ["0000-00-00T00:00:00.000Z"] * 2


# The log of refusals, which the report is made of.


def test_a_refusal_is_logged(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = work / "plan.md"
    landed.write(path, "one")
    for _ in range(2):
        with pytest.raises(landed.StaleWrite):
            landed.write(path, "two", expect="9-abc")
    with pytest.raises(landed.StaleWrite):
        landed.delete(path, expect=landed.ABSENT)
    landed.write(path, "two")
    landed.delete(path)
    with pytest.raises(landed.StaleWrite):
        landed.write(path, "three", expect="9-abc")
    assert main(["log", str(path)]) == console.OK
    logged = capsys.readouterr().out
    outcomes = [line.split()[3] for line in logged.splitlines()[1:]]
    assert outcomes == ["landed", "refused", "refused", "refused", "landed", "landed", "refused"]
    told = page_of(work)[1].text
    assert "expected no file, found 1-" in told
    assert "expected 9-abc, found no file" in told
    assert "ABSENT" not in logged + told


def test_a_report_does_not_tell_of_itself(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    landed.write(work / "plan.md", "one")
    for _ in range(2):
        assert main(["report", str(work), "--output", str(work / "page.html")]) == console.OK
        assert capsys.readouterr().out.startswith("1 artifact in ")


def test_a_writer_that_does_not_give_up_fills_no_disk(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (shelf, log):
        monkeypatch.setattr(module, "LOG_LIMIT", 2000)
    path = work / "plan.md"
    landed.write(path, "one")
    for _ in range(100):
        with pytest.raises(landed.StaleWrite):
            landed.write(path, "two", expect="9-abc")
    (path_of_log,) = (work.parent / "state" / "artifacts").glob("*.log")
    assert path_of_log.stat().st_size < 2500
    landed.write(path, "two")


def test_a_refusal_that_cannot_be_logged_is_a_refusal(work: Path) -> None:
    path = work / "plan.md"
    landed.write(path, "one")
    (log,) = (work.parent / "state" / "artifacts").glob("*.log")
    log.unlink()
    log.mkdir()
    with pytest.raises(landed.StaleWrite):
        landed.Files().write(path, "two", expect="9-abc")
