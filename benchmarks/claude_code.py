"""The hook for Claude Code: what one call costs, and what a Write costs in the real Claude Code, beside the peers.

python benchmarks/claude_code.py [--quick] [--json FILE] [--writes N] [--only calls|sessions]

A machine that does other work makes a process start late and finish late. So each call's processor time is shown beside
the time on the clock: the first is what the hook is answerable for. Peers that are not installed are left out and said.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from operator import sub
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frame import Progress, Report, arguments, scratch

from landed_claude_code.settings import command, entries, here

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "integration_tests" / "claude_code"))

from claude import LATEST, Claude, Network, Unavailable, fetch  # noqa: E402 - after the path to it
from model import Model, text, use  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 40
SESSIONS = 4
WRITES = 5
SMALL, LARGE = 2 * 1024, 1024 * 1024
MEDIAN_MS, P95_MS, LARGER_MS = 15, 50, 5
BIN = Path(sys.executable).parent
EDIT_GUARD, COHERENCE = "edit-guard", "agent-coherence"
CREATE, OVERWRITE, EDIT = "a Write of a new file", "a Write over a file", "an Edit"
READ = "Read"
NOTHING = "an interpreter that does nothing"
ALL = "landed, all of these, 2 KB"
BY_HAND = """
import gc, os, sys
gc.disable()
from _json import make_scanner
class Context:
    strict, object_hook, object_pairs_hook, parse_float, parse_int, parse_constant = True, None, None, float, int, float
raw = b"".join(iter(lambda: os.read(0, 65536), b""))
event, _ = make_scanner(Context())(raw.decode(), 0)
with open(event["tool_input"]["file_path"], "rb") as file:
    data = file.read()
assert data == event["tool_response"]["content"].encode()
if len(data) > 65536:
    from _hashlib import openssl_sha256 as sha256
elif sys.version_info >= (3, 12):
    from _sha2 import sha256
else:
    from _sha256 import sha256
sha256(data).hexdigest()
os._exit(0)
"""
"""The least that comparing a Write with the disk, and keeping its digest, takes when it is written plainly."""
SESSION = "6f0c6c4e-6a9b-4d0e-9a53-0a3c2a7e1b11"


@dataclass
class Times:
    """What one kind of call took, in milliseconds."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def spawn(words: list[str], payload: bytes, env: dict[str, str], directory: str) -> tuple[float, float]:
    """Run one process on `payload`; its time on the clock and on the processor, in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(words, input=payload, capture_output=True, env=env, cwd=directory, check=True)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall * 1e3, cpu * 1e3


@dataclass
class Work:
    """What one tool does to one file, and what Claude Code says around it."""

    kind: str
    path: str
    before: str | None
    after: str
    session: str
    tool: str
    asked: dict[str, object]
    response: dict[str, object]

    @classmethod
    def of(cls, kind: str, path: str, size: int, number: int) -> Work:
        """A Write of a new file, one over an old one, or an Edit."""
        old = "".join(f"{line:6}: what {number} says in a line of its own\n" for line in range(size // 40))[:size]
        new = old[: size // 2] + "CHANGED" + old[size // 2 + 7 :]
        session = f"{SESSION} {kind} {size}"  # else one's batch looks at the other's file
        if kind == CREATE:
            said = {"type": "create", "filePath": path, "content": old, "structuredPatch": [], "originalFile": None}
            return cls(kind, path, None, old, session, "Write", {"file_path": path, "content": old}, said)
        patch = [{"oldStart": 1, "oldLines": 1, "newStart": 1, "newLines": 1, "lines": ["-a line", "+CHANGED"]}]
        if kind == OVERWRITE:
            said = {"type": "update", "filePath": path, "content": new, "structuredPatch": patch, "originalFile": old}
            return cls(kind, path, old, new, session, "Write", {"file_path": path, "content": new}, said)
        words = {"old": old[size // 2 - 20 : size // 2 + 7], "new": new[size // 2 - 20 : size // 2 + 7]}
        asked = {"file_path": path, "old_string": words["old"], "new_string": words["new"], "replace_all": False}
        said = {"filePath": path, "oldString": words["old"], "newString": words["new"], "originalFile": old}
        return cls(kind, path, old, new, session, "Edit", asked, {**said, "structuredPatch": patch})

    def events(self) -> dict[str, bytes]:
        """In the order in which they come, their members likewise."""
        agent = {"session_id": self.session, "cwd": os.path.dirname(self.path)}
        call = {"tool_name": self.tool, "tool_input": self.asked}
        name = {"tool_use_id": f"toolu_{self.path}"}
        seen = {"type": "text", "file": {"filePath": self.path, "content": (self.before or "")[:80], "startLine": 1}}
        read = {"tool_name": "Read", "tool_input": {"file_path": self.path}, "tool_response": seen}
        reads = {} if self.before is None else {READ: as_sent(**agent, hook_event_name="PostToolUse", **read, **name)}
        return reads | {
            "PreToolUse": as_sent(**agent, hook_event_name="PreToolUse", **call, **name),
            "PostToolUse": as_sent(
                **agent, hook_event_name="PostToolUse", **call, tool_response=self.response, **name, duration_ms=3
            ),
            "PostToolBatch": as_sent(
                **agent, hook_event_name="PostToolBatch", tool_calls=[{**call, **name, "tool_response": "done"}]
            ),
            "Stop": as_sent(**agent, hook_event_name="Stop", stop_hook_active=False),
        }


def as_sent(**event: object) -> bytes:
    """An event as Claude Code writes it: without spaces, and with every character as it is."""
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def calls(report: Report, directory: str, rounds: int) -> None:
    """What one process costs, at each event."""
    landed = command(*here())
    ours = [landed["command"], *landed["args"]]
    work = os.path.join(directory, "calls")
    os.mkdir(work)
    env = {
        **os.environ,
        "HOME": directory,
        "LANDED_STATE_DIR": os.path.join(directory, "state"),
        "CLAUDE_PID": str(os.getpid()),
    }
    bare = [sys.executable, "-I", "-S", "-c", BY_HAND]
    nothing = [sys.executable, "-I", "-S", "-c", "pass"]
    times: dict[str, Times] = {}
    order = random.Random(1)
    progress = Progress("one call", rounds)
    with coordinator(work, env) as peers:
        for number in range(-2, rounds):

            def run(name: str, words: list[str], payload: bytes, *, counts: bool = number >= 0) -> None:
                wall, cpu = spawn(words, payload, env, work)
                if counts:
                    times.setdefault(name, Times()).wall.append(wall)
                    times[name].cpu.append(cpu)

            run(NOTHING, nothing, b"")
            run("", ours, as_sent(session_id=SESSION, hook_event_name="SessionStart"), counts=False)
            works = [
                (label, Work.of(kind, os.path.join(work, f"{kind} {label} {number}"), size, number))
                for kind in (CREATE, OVERWRITE, EDIT)
                for size, label in ((SMALL, "2 KB"), (LARGE, "1 MB"))
            ]
            for label, each in order.sample(works, len(works)):
                if each.before is not None:
                    write(each.path, each.before)
                for event, payload in each.events().items():
                    if event == "PostToolUse":
                        write(each.path, each.after)
                    run(f"landed, {event}, {each.kind}, {label}", ours, payload)
                    if each.kind == CREATE and event == "PostToolUse":
                        run(f"by hand, after a Write, {label}", bare, payload)
                    if each.kind == CREATE and event == "PreToolUse" and label == "2 KB":
                        for name, words in peers.items():
                            run(f"{name}, before a Write", words, payload)
                os.unlink(each.path)
            if number >= 0:
                progress.step()
    tell_of_calls(report, times)


def tell_of_calls(report: Report, times: dict[str, Times]) -> None:
    """The table of what each kind of call took, and what is required of the hook's own."""
    base = statistics.median(times[NOTHING].cpu)
    small = Times()
    for name, each in times.items():
        if name.startswith("landed") and name.endswith("2 KB"):  # as many of each
            small.wall += each.wall
            small.cpu += each.cpu
    rows = [
        [
            name,
            f"{statistics.median(each.wall):.1f}",
            f"{p95(each.wall):.1f}",
            f"{min(each.wall):.1f}",
            f"{statistics.median(each.cpu):.1f}",
            f"{min(each.cpu):.1f}",
            f"{statistics.median(each.cpu) / base:.2f}",
        ]
        for name, each in sorted({**times, ALL: small}.items(), key=lambda item: statistics.median(item[1].cpu))
    ]
    header = ["one process", "median ms", "p95 ms", "least ms", "processor ms", "least", "over the bare one"]
    report.table(
        "One call",
        header,
        rows,
        [
            "processor: the median, the least, and the median's ratio",
            "by hand: an interpreter reads the same event, decodes it, reads the file, compares them, and hashes once",
        ],
    )
    report.require("one call, 2 KB, median", MEDIAN_MS, statistics.median(small.wall), "ms")
    report.require("the same on the processor", MEDIAN_MS, statistics.median(small.cpu), "ms")
    report.require("one call, 2 KB, p95", P95_MS, p95(small.wall), "ms")
    for kind in (CREATE, OVERWRITE, EDIT):
        more = max(  # of calls of one turn: the pace of a machine changes from turn to turn
            statistics.median(map(sub, each.cpu, times[name.replace("1 MB", "2 KB")].cpu))
            for name, each in times.items()
            if kind in name and name.endswith("1 MB")
        )
        report.require(f"{kind}: 1 MB more than 2 KB, on the processor", LARGER_MS, more, "ms")


def write(path: str, content: str) -> None:
    """As Claude Code does: another file, flushed, takes the place of the old one."""
    temp = f"{path}.tmp"
    with open(temp, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temp, path)


def p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]


@contextlib.contextmanager
def coordinator(directory: str, env: dict[str, str], network: Network | None = None) -> Iterator[dict[str, list[str]]]:
    """The peers' commands; agent-coherence's needs its server, which ends with the block."""
    peers: dict[str, list[str]] = {}
    if (BIN / EDIT_GUARD).exists():
        peers[EDIT_GUARD] = [str(BIN / EDIT_GUARD), "hook"]
    server = Path(directory) / ".coherence" / "server.pid"
    if (BIN / f"{COHERENCE}-coordinator").exists():
        subprocess.run(["git", "init", "-q", directory], check=True)
        start = [str(BIN / f"{COHERENCE}-coordinator"), "--root", directory]
        run = subprocess.run if network is None else lambda *words, **more: network.run(subprocess.run, *words, **more)
        run(start, env=env, cwd=directory, check=True, stdout=subprocess.DEVNULL)
        peers[COHERENCE] = [str(BIN / f"{COHERENCE}-hook-client"), "pre-edit"]
    missing = [name for name in (EDIT_GUARD, COHERENCE) if name not in peers]
    if missing:
        print(f"  not installed, and left out: {', '.join(missing)}", file=sys.stderr)
    try:
        yield peers
    finally:
        if server.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(server.read_text(encoding="utf-8").split()[0]), signal.SIGTERM)


def hooks_of(name: str) -> dict[str, Any]:
    """The settings of each contender, as its installer writes them."""
    if name == "landed":
        return {event: [group] for event, group in entries(*here()).items()}
    if name == EDIT_GUARD:
        run = {"PreToolUse": "hook", "PostToolUse": "hook --post-write"}
        return {
            event: [_group("Edit|Write|MultiEdit|NotebookEdit", f"{BIN / EDIT_GUARD} {words}")]
            for event, words in run.items()
        }
    if name == COHERENCE:
        client = f"{BIN / COHERENCE}-hook-client"
        return {
            "PreToolUse": [_group("Edit|Write", f"{client} pre-edit")],
            "PostToolUse": [_group("Edit|Write", f"{client} post-edit")],
            "Stop": [_group("", f"{client} session-stop")],
        }
    return {}


def _group(matcher: str, words: str) -> dict[str, Any]:
    return {"matcher": matcher, "hooks": [{"type": "command", "command": words, "timeout": 30}]}


def sessions(report: Report, directory: str, rounds: int, writes: int) -> None:
    """What a Write costs in the real Claude Code."""
    try:
        program = fetch(LATEST)
    except Unavailable as why:
        print(f"  left out: a Write in Claude Code, because {why}", file=sys.stderr)
        return
    network = Network()
    order = random.Random(1)
    with contextlib.ExitStack() as ends:
        ends.callback(network.close)
        contenders = {}
        for name in ("no hook", "landed", EDIT_GUARD, COHERENCE):
            claude = Claude(program, network, Path(directory, name).resolve())
            peers = ends.enter_context(coordinator(str(claude.work), claude.env, network)) if name == COHERENCE else {}
            if (name == COHERENCE and COHERENCE not in peers) or (
                name == EDIT_GUARD and not (BIN / EDIT_GUARD).exists()
            ):
                continue
            claude.settings(**hooks_of(name))
            contenders[name] = claude
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        progress = Progress(f"sessions of {writes} writes", rounds)
        for number in range(-1, rounds):
            for name in order.sample(sorted(contenders), len(contenders)):
                took = _session(contenders[name], writes, number)
                if number >= 0:
                    seconds[name].append(took)
            if number >= 0:
                progress.step()
    base = statistics.median(seconds["no hook"])
    rows = [
        [name, f"{statistics.median(each) * 1e3:,.0f}", f"{(statistics.median(each) - base) / writes * 1e3:.1f}"]
        for name, each in seconds.items()
    ]
    header = [f"Claude Code {program.parents[3].name}", f"{writes} writes, ms", "more per write, ms"]
    report.table(f"A session that writes {writes} new files", header, rows)


def _session(claude: Claude, writes: int, number: int) -> float:
    path = claude.work / f"round {number}"
    path.mkdir()
    content = "x" * SMALL
    turn = [use("Write", file_path=str(path / f"{each}.md"), content=content) for each in range(writes)]
    model = claude.network.run(Model, {"main": [turn, [text("done")]]})
    started = time.perf_counter()
    try:
        claude.run(model.url)
    finally:
        model.close()
    took = time.perf_counter() - started
    assert len(list(path.iterdir())) == writes, model.results()
    shutil.rmtree(path)
    return took


def main() -> None:
    parser = arguments("The hook for Claude Code, beside its peers.")
    parser.add_argument("--writes", type=int, default=WRITES, help=f"in one session (default {WRITES})")
    parser.add_argument("--only", choices=["calls", "sessions"], help="one of the two parts")
    options = parser.parse_args()
    share = 8 if options.quick else 1
    with scratch(options) as directory:
        report = Report("The hook for Claude Code", directory)
        if options.only != "sessions":
            calls(report, directory, max(5, ROUNDS // share))
        if options.only != "calls":
            sessions(report, directory, max(2, SESSIONS // share), options.writes)
        report.close(options.json)


if __name__ == "__main__":
    main()
