"""How many connections to Postgres this network may open at most, held against what the server allows.

Each pool is bounded, so the sum is known before anything starts. A server that allows fewer would refuse
somebody in the middle of a busy evening; it is said at the start instead.
"""

from __future__ import annotations

from typing import NamedTuple

import structlog

from adapters import postgres
from adapters.postgres import connections_allowed
from domain.errors import ConfigurationInvalid
from guildhall.settings import Settings

log = structlog.get_logger()

RESERVE = 8
"""For a host that is being replaced, migrations, `guildhall` commands and whoever looks with psql."""


class Share(NamedTuple):
    """What one kind of process takes."""

    kind: str
    processes: int
    connections_each: int


class ConnectionBudget(NamedTuple):
    """All that take connections."""

    shares: tuple[Share, ...]

    @property
    def total(self) -> int:
        """How many connections may be open at once."""
        return RESERVE + sum(share.processes * share.connections_each for share in self.shares)

    def __str__(self) -> str:
        parts = [f"{share.processes} × {share.connections_each} for {share.kind}" for share in self.shares]
        return f"{self.total} ({', '.join(parts)}, {RESERVE} in reserve)"


def connection_budget(settings: Settings) -> ConnectionBudget:
    """Return what the processes that these settings ask for may open."""
    return ConnectionBudget(
        (
            Share("guild hosts", settings.hosts, postgres.GUILD_STORE_CONNECTIONS),
            Share("the Director", 1, postgres.GUILD_STORE_CONNECTIONS),
            Share("roles", 1, postgres.ROLE_STORE_CONNECTIONS),
            Share("user resolvers", settings.user_resolvers, postgres.USER_TABLE_CONNECTIONS),
            Share(
                "API replicas",
                settings.api_replicas,
                postgres.API_CONNECTIONS + postgres.INSIGHTS_CONNECTIONS,
            ),
            # Twice: when the relays are restarted, an old one drains while its successor works.
            Share("relays", 2 * settings.relay_replicas, postgres.RELAY_CONNECTIONS),
        )
    )


async def require_connections(database_url: str, budget: ConnectionBudget) -> None:
    """Check that the server lets this role open so many connections to this database.

    A pooler between the two has limits of its own, which cannot be asked for: then the sum is logged.

    Raises:
        ConfigurationInvalid: it does not; the sentence says who takes how many, and what to do.
        StoreUnavailable: there is no server to ask.

    """
    allowed = await connections_allowed(database_url)
    if allowed is None:
        log.warning(
            "connection_pooler",
            connections=budget.total,
            advice="It must pool sessions, not transactions, and take so many clients at once.",
        )
    elif allowed < budget.total:
        raise ConfigurationInvalid(
            f"This network may open {budget} connections to Postgres, which allows it {allowed}: raise "
            "max_connections (or the limit of the role or the database) there, or set fewer GUILDHALL_HOSTS, "
            "GUILDHALL_API_REPLICAS or GUILDHALL_RELAY_REPLICAS."
        )
