"""``landed-hook install`` and ``uninstall``."""

from __future__ import annotations

import compileall
import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

import landed
from landed.cli import output
from landed.state import user_store
from landed_claude_code import settings
from landed_claude_code.hook import bundle_path

if TYPE_CHECKING:
    import argparse

INSTALL: Final = """\
Put the hook into Claude Code's settings. Other hooks stay as they are, byte for byte; settings that
are not JSON are refused; a second time changes nothing. Claude Code notices by itself. A session does
not where the directory .claude is removed and made again while it runs, as uninstall and install do
if nothing else is in it: start that session anew.

  user      ~/.claude/settings.json, for every project of this user (the default)
  project   .claude/settings.json here, for everybody who works on it: it names this interpreter
  local     .claude/settings.local.json here, for this user in this project
"""
UNINSTALL: Final = """\
Take the hook out of Claude Code's settings again, and nothing else. Without --scope, out of all three.
"""


def add_parsers(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add both commands."""
    parser = output.add_command(subparsers, "install", "put the hook into Claude Code's settings", INSTALL)
    parser.add_argument("--scope", choices=settings.SCOPES, default="user", help="which settings (default: user)")
    parser.add_argument("--dry-run", action="store_true", help="show the change and leave it at that")
    parser.set_defaults(run=install)
    parser = output.add_command(subparsers, "uninstall", "take it out again", UNINSTALL)
    parser.add_argument("--scope", choices=settings.SCOPES, help="which settings (default: all)")
    parser.add_argument("--dry-run", action="store_true", help="show the change and leave it at that")
    parser.set_defaults(run=uninstall)


def install(args: argparse.Namespace) -> int:
    """Put it in."""
    path = settings.path_of(args.scope, os.getcwd())
    python, libraries = settings.here()
    wanted = settings.entries(python, libraries)
    if not args.dry_run:
        _compile(libraries)
    directory = os.path.dirname(path)
    made = {name for name in (directory, path) if not args.dry_run and not os.path.exists(name)}
    changed = _edit(args, path, lambda text: settings.with_ours(text, path, wanted))
    if made:
        _note_made(_made() | made)
    if args.json:
        output.emit({"path": path, "changed": changed, "dry_run": args.dry_run, "entries": wanted})
    elif args.dry_run:
        output.note(f"{'nothing was written to' if changed else 'it is already in'} {path}")
    else:
        print(f"{'installed in' if changed else 'already in'} {output.shown(path)}")
        if changed:
            output.note("`landed-hook doctor` tries it")
    return output.OK


def _made() -> set[str]:
    """Settings, and their directories, that an installation made, and no other has removed since."""
    try:
        with open(_made_path(), encoding="utf-8", errors="surrogateescape") as file:
            return set(json.load(file))
    except (OSError, ValueError):
        return set()  # they stay, empty as they may be


def _note_made(made: set[str]) -> None:
    with contextlib.suppress(OSError):  # likewise
        if not made:
            os.unlink(_made_path())
            return
        os.makedirs(os.path.dirname(_made_path()), 0o700, exist_ok=True)
        with open(_made_path(), "w", encoding="utf-8") as file:
            json.dump(sorted(made), file)


def _made_path() -> str:
    return os.path.join(user_store().root, "made-by-landed-hook.json")


def _remove_made(path: str) -> None:
    """Remove the settings, and their directory, if an installation made them and nothing else is in them by now."""
    known = _made()
    made = set(known)
    if path in made:
        if not settings.parse(landed.read(path).text, path):
            landed.delete(path)
        made -= {path}
    directory = os.path.dirname(path)
    if directory in made:
        with contextlib.suppress(OSError):  # something is in it, the settings of another scope maybe
            os.rmdir(directory)
            made -= {directory}
    if made != known:
        _note_made(made)


def _compile(libraries: list[str]) -> None:
    """Cache the bytecode now: not every installer does, and without it every call compiles everything again."""
    for library in libraries:
        for package in ("landed", "landed_claude_code"):
            compileall.compile_dir(os.path.join(library, package), maxlevels=0, quiet=2)


def _show(path: str, before: str, after: str) -> None:
    """The entries that would come and go, a line each: everything else in the settings stays byte for byte."""
    tools = {event: matcher for event, matcher, _ in settings.EVENTS}
    old, new = (settings.ours(settings.parse(text, path)) for text in (before, after))
    rows = [
        (sign, event, tools.get(event, ""), f"{hook.get('timeout')} s", hook.get("onFailure", ""))
        for sign, these, those in (("-", old, new), ("+", new, old))
        for event, hooks in these.items()
        for hook in hooks
        if hook not in those.get(event, [])
    ]
    if not rows:
        return
    print(f"{output.shown(path)} would change by these entries, and in nothing else:\n")
    output.table(rows, ("", "EVENT", "TOOLS", "LIMIT", "ON FAILURE"))
    for program in sorted({hook["command"] for hooks in new.values() for hook in hooks}):
        print(f"\neach starts {output.shown(program)}; `--json` has the entries in full")


def uninstall(args: argparse.Namespace) -> int:
    """Take it out."""
    paths = [settings.path_of(scope, os.getcwd()) for scope in ([args.scope] if args.scope else settings.SCOPES)]
    changed = []
    for path in paths:
        if os.path.exists(path) and _edit(args, path, lambda text, path=path: settings.without_ours(text, path)):
            changed.append(path)
            if not args.dry_run:
                _remove_made(path)
            if args.json:
                continue
            if args.dry_run:
                output.note(f"nothing was written to {path}")
            else:
                print(f"taken out of {output.shown(path)}")
    if changed and not args.dry_run:
        with contextlib.suppress(OSError):  # there is none, or it may not be removed; pip would leave it
            os.unlink(bundle_path())
    if args.json:
        output.emit({"changed": changed, "dry_run": args.dry_run})
    elif not changed:
        print(f"it is in none of the settings: {', '.join(map(output.shown, paths))}")
    return output.OK


def _edit(args: argparse.Namespace, path: str, change: Any) -> bool:  # noqa: ANN401 - a function of the text
    """Change a settings file under its lock; whether there was anything to change."""
    if args.dry_run:
        before = settings.text_of(landed.read(path).data, path) if os.path.exists(path) else ""
        after = change(before)
        if not args.json:
            _show(path, before, after)
        return bool(after != before)
    with landed.edit(path) as doc:
        before = settings.text_of(doc.data, path)
        doc.text = after = change(before)
    return bool(after != before)
