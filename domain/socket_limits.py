"""How much of a relay one person, one address and one socket may take. Pure; who counts is elsewhere."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Allowance(msgspec.Struct, frozen=True):
    """So much at once; what was spent comes back evenly over so many seconds.

    What is left is one number a spender: the moment at which everything will have come back.
    """

    amount: int
    seconds: float = 60.0

    def spend(self, whole_at_s: float, now_s: float, cost: float = 1) -> float | None:
        """Return the moment at which all will be back once this is spent, or None when it is too much."""
        whole_at_s = max(whole_at_s, now_s) + cost * self.seconds / self.amount
        return whole_at_s if whole_at_s - now_s <= self.seconds else None

    def give_back(self, whole_at_s: float, unspent: float) -> float:
        """Return the moment at which all will be back, where less was spent than was thought."""
        return whole_at_s - unspent * self.seconds / self.amount


class SocketLimits(msgspec.Struct, frozen=True):
    """What is allowed; the defaults are those of the settings."""

    sockets: int = 20
    """Open sockets of one person, over all relays."""
    sockets_per_address: int = 500
    """Open sockets from one address, at each relay."""
    messages: Allowance = Allowance(120)
    """Frames that one socket may send."""
    subscribes: Allowance = Allowance(240)
    """Subscribes of one person, at each relay."""
    replay_bytes: Allowance = Allowance(16 << 20)
    """What hosts may be asked to replay to one person, at each relay."""
    idle_s: float = 60.0
    """A socket may watch nothing for so long."""


class OpenSockets(Protocol):
    """How many sockets each person holds, over all relays.

    Nothing is raised: while that cannot be asked, each relay counts for itself.
    """

    async def enter(self, user_id: int, here: int, most: int) -> bool:
        """Note how many sockets a person holds at this relay; return False if that makes over ``most``."""
        ...

    async def tell(self, user_id: int, here: int) -> None:
        """Note how many sockets a person holds at this relay now."""
        ...

    async def live(self) -> bool:
        """Say that this relay lives; return False when what it had told may be gone.

        Ten seconds after it last said so its sockets count no longer.
        """
        ...

    async def close(self) -> None:
        """Let this relay's sockets count no longer."""
        ...
