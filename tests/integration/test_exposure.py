"""What a machine that runs Guildhall shows to its network, and what its processes know."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address

import asyncpg
import psutil

from guildhall.connection_budget import connection_budget
from guildhall.settings import Settings
from guildhall.testing import DemoProcess


def test_everything_listens_on_loopback(stack: DemoProcess) -> None:
    """Ray's, Serve's and HAProxy's ports too: for metrics, for stats, for calls between deployments."""
    exposed, ports = [], 0
    for process in stack.descendants():
        with contextlib.suppress(psutil.NoSuchProcess):
            for connection in process.net_connections():
                if connection.status == psutil.CONN_LISTEN:
                    ports += 1
                    address = ip_address(connection.laddr.ip.removeprefix("::ffff:"))
                    if not address.is_loopback:
                        exposed.append((process.name(), *connection.laddr))
    assert ports > 20
    assert exposed == []


def test_no_child_inherits_the_settings(stack: DemoProcess) -> None:
    """Tokens and keys reach the actors that need them, and no environment."""
    seen = 0
    for process in stack.descendants():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.pid != stack.pid:
                seen += 1
                assert not [name for name in process.environ() if name.startswith("GUILDHALL_")], process
    assert seen > 10


async def test_no_more_connections_are_open_than_were_counted(database: asyncpg.Connection) -> None:
    """The budget that is checked at the start holds for what then runs."""
    budget = connection_budget(Settings(hosts=2, api_replicas=2, relay_replicas=2))
    open_now = await database.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    )
    assert 0 < open_now <= budget.total
