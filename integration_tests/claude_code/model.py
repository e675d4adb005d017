"""A model that follows a script: Claude Code's side of the Messages API, on loopback, for one test.

A script is a list of turns, and a turn a list of content blocks (`text`, `use`) or a function that returns one. A
prompt that holds ``SCRIPT:name`` is answered from that script, also a subagent's; which turn it is, the number of
answers in the conversation says. So nothing is remembered between requests, and any number of agents can talk at once.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

Block: TypeAlias = dict[str, Any]
Turn: TypeAlias = "list[Block] | Callable[[], list[Block]]"


def text(words: str) -> Block:
    return {"type": "text", "text": words}


def use(tool: str, **arguments: object) -> Block:
    return {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:20]}", "name": tool, "input": arguments}


class Model:
    """Serves scripts, and keeps what each conversation has heard."""

    def __init__(self, scripts: dict[str, list[Turn]]) -> None:
        self.scripts = scripts
        self.paths: set[str] = set()
        self.last_prompt_decides = False
        self._heard: dict[str, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: dict[str, Any]) -> list[Block]:
        messages = request.get("messages", [])
        named = [(at, found) for at, message in enumerate(messages) if (found := _script_of(message))]
        begin, name = named[-1 if self.last_prompt_decides else 0] if named else (0, "")
        if not name or not request.get("tools"):
            return [text("ok")]
        with self._lock:
            if len(messages) >= len(self._heard.get(name, [])):
                self._heard[name] = messages
        step = sum(message["role"] == "assistant" for message in messages[begin:])
        turns = self.scripts[name]
        if step >= len(turns):
            return [text("done")]
        turn = turns[step]
        return turn() if callable(turn) else turn

    def results(self, name: str = "main") -> list[str]:
        """The tool results that a script's conversation got, in the order of its calls."""
        blocks = [block for message in self._heard.get(name, []) for block in _blocks(message)]
        found = {block["tool_use_id"]: _words(block.get("content")) for block in blocks if "tool_use_id" in block}
        return [found[block["id"]] for block in blocks if block.get("type") == "tool_use" and block["id"] in found]

    def heard(self, name: str = "main") -> str:
        """All that a script's conversation was told, tool results and what hooks added."""
        return "\n".join(
            _words(message["content"]) for message in self._heard.get(name, []) if message["role"] != "assistant"
        )


def _blocks(message: dict[str, Any]) -> list[Block]:
    content = message["content"]
    return [text(content)] if isinstance(content, str) else content


def _words(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part.get("text") or _words(part.get("content")) for part in parts if isinstance(part, dict))


def _script_of(message: dict[str, Any]) -> str:
    match = re.search(r"SCRIPT:(\w+)", _words(message["content"])) if message["role"] == "user" else None
    return match.group(1) if match is not None else ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def _handler(model: Model) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
            model.paths.add(self.path.partition("?")[0])
            if not self.path.partition("?")[0].endswith("/v1/messages"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            for event in _events(request, model.answer(request)):
                self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            self.close_connection = True

        def do_GET(self) -> None:
            model.paths.add(self.path.partition("?")[0])
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    return Handler


def _events(request: dict[str, Any], blocks: list[Block]) -> list[dict[str, Any]]:
    """One streamed answer."""
    usage = {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    message = {
        "id": f"msg_{uuid.uuid4().hex[:20]}",
        "type": "message",
        "role": "assistant",
        "model": request.get("model", ""),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events += [
            {"type": "content_block_start", "index": index, "content_block": empty},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    why = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
    ended = {
        "type": "message_delta",
        "delta": {"stop_reason": why, "stop_sequence": None},
        "usage": {"output_tokens": 1},
    }
    return [*events, ended, {"type": "message_stop"}]
