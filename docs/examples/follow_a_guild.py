#!/usr/bin/env python3
"""Prints a guild's violations as they happen, over restarts of the server and of everything between.

    GUILDHALL_COOKIE="guildhall=…" docs/examples/follow_a_guild.py http://127.0.0.1:8000 GUILD_ID

The cookie is the one of a browser that is logged in: in its developer tools, under Storage or Application.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from typing import TextIO

import aiohttp

from guildhall.live import (
    Applied,
    FollowingEnded,
    Live,
    ReadViolations,
    Reset,
    Violation,
    ViolationList,
    Waiting,
    follow,
)


async def print_violations(url: str, guild_id: str, cookie: str, out: TextIO) -> None:
    """Print what the guild has, and then what comes, until it ends for good."""
    shown = ViolationList()
    known: set[str] = set()
    async with aiohttp.ClientSession() as http:
        load = ReadViolations(http, url, guild_id, cookie=cookie)
        async with contextlib.aclosing(follow(url, guild_id, cookie=cookie, load=load)) as updates:
            async for update in updates:
                match update:
                    case Reset(snapshot=violations):
                        shown.reset(violations)
                    case Applied(events=events):
                        shown.apply(events)
                    case Live(resumed=resumed):
                        out.write("-- live again\n" if resumed else "-- live\n")
                    case Waiting(retry_in_s=seconds):
                        out.write(f"-- away; the next try is in {seconds:.1f} s\n")
                new = [violation for violation in shown if violation.id not in known]
                out.writelines(line_of(violation) for violation in reversed(new))
                known = {violation.id for violation in shown}
                out.flush()


def line_of(violation: Violation) -> str:
    """Return a violation in a line."""
    who = violation.user.display_name or violation.user.username or violation.user.id
    return f"{violation.severity:8} {violation.rule:16} {who:20} {violation.excerpt}\n"


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("url", help="the dashboard's address")
    parser.add_argument("guild_id", help="the server's Discord id")
    arguments = parser.parse_args()
    cookie = os.environ.get("GUILDHALL_COOKIE")
    if not cookie:
        parser.error("Set GUILDHALL_COOKIE to the cookie of a session.")
    try:
        asyncio.run(print_violations(arguments.url, arguments.guild_id, cookie, sys.stdout))
    except FollowingEnded as ended:
        sys.exit(str(ended))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
