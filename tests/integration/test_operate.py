"""What operators do to a running network, by the command line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from guildhall.testing import DemoProcess


async def test_what_the_director_refuses_is_told_in_one_sentence(stack: DemoProcess) -> None:
    """Nothing of where it was refused: the error crossed an actor, its traceback did not."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("guildhall"),
        *("hosts", "drain", "nobody", "--data-dir", str(stack.data_dir)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    sentence = "guildhall: There is no host nobody: `guildhall hosts list` shows those there are.\n"
    assert said.decode() == sentence
