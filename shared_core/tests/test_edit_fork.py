"""A fork inside an `edit` block: the lock stays the parent's, and so does the right to write."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from programs import Programs

SOURCE = """
import os, sys
import landed

path = sys.argv[1]
landed.write(path, "start")
refused = ""
block = landed.edit(path)
doc = block.__enter__()
pid = os.fork()
doc.text = "child" if pid == 0 else "parent"
if pid:
    print("child", "wrote" if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 else "refused", flush=True)
try:
    block.__exit__(None, None, None)
except landed.NotLanded as error:
    refused = f"{type(error).__name__} at {error.step}"
if pid == 0:
    os._exit(3 if refused else 0)
print("parent", refused or "wrote")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_forked_child_cannot_write_under_its_parents_lock(programs: Programs, tmp_path: Path) -> None:
    assert programs.run(SOURCE, str(tmp_path / "file")) == ["child refused", "parent wrote"]
