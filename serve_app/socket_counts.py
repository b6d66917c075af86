"""What each person and each address takes of this relay, counted before anything costly is done for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from domain.socket_limits import OpenSockets, SocketLimits
from tasks import SupervisedTasks

LIVE_EVERY_S = 3.0


class _Person:
    """What one person holds, and what they spent."""

    __slots__ = ("replay_whole_at_s", "sockets", "subscribes_whole_at_s")

    def __init__(self) -> None:
        self.sockets = 0
        self.subscribes_whole_at_s = 0.0
        self.replay_whole_at_s = 0.0

    def is_forgettable(self, now_s: float) -> bool:
        """Whether a newcomer would be treated the same."""
        return not self.sockets and max(self.subscribes_whole_at_s, self.replay_whole_at_s) <= now_s


class SocketCounts:
    """Counts at one relay; of the sockets a person holds, those of the other relays count too."""

    def __init__(
        self, limits: SocketLimits, everywhere: OpenSockets, monotonic_s: Callable[[], float]
    ) -> None:
        self._limits = limits
        self._everywhere = everywhere
        self._monotonic_s = monotonic_s
        self._people: dict[int, _Person] = {}
        self._addresses: Counter[str] = Counter()
        self._tasks = SupervisedTasks("socket counts")
        self._stopped = False

    async def start(self) -> None:
        """Begin to say that this relay lives."""
        await self._everywhere.live()
        self._tasks.every("live", LIVE_EVERY_S, self._live)

    async def stop(self) -> None:
        """Let this relay's sockets count no longer."""
        self._stopped = True
        await self._tasks.stop()
        await self._everywhere.close()

    # -- addresses

    def enter_address(self, address: str) -> bool:
        """Count a connection from an address; return False when there are too many, and count none."""
        if self._addresses[address] >= self._limits.sockets_per_address:
            return False
        self._addresses[address] += 1
        return True

    def leave_address(self, address: str) -> None:
        """Count one less."""
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    # -- people

    async def enter(self, user_id: int) -> bool:
        """Count a person's socket; return False when they have too many, and count none."""
        person = self._person(user_id)
        if person.sockets >= self._limits.sockets:
            return False
        person.sockets += 1
        entered = False
        try:
            entered = await self._everywhere.enter(user_id, person.sockets, self._limits.sockets)
        finally:
            if not entered:
                self.leave(user_id)
        return entered

    def leave(self, user_id: int) -> None:
        """Count one less, and let the other relays know soon."""
        person = self._people[user_id]
        person.sockets -= 1
        if not self._stopped:
            self._tasks.spawn("tell", self._tell(user_id))

    def may_subscribe(self, user_id: int) -> bool:
        """Count a subscribe; return False when there were too many."""
        person = self._person(user_id)
        whole_at_s = self._limits.subscribes.spend(person.subscribes_whole_at_s, self._monotonic_s())
        if whole_at_s is None:
            return False
        person.subscribes_whole_at_s = whole_at_s
        return True

    def reserve_replay(self, user_id: int, size: int) -> bool:
        """Take so many bytes of what may be replayed to a person; return False when they are not left."""
        person = self._person(user_id)
        whole_at_s = self._limits.replay_bytes.spend(person.replay_whole_at_s, self._monotonic_s(), size)
        if whole_at_s is None:
            return False
        person.replay_whole_at_s = whole_at_s
        return True

    def return_replay(self, user_id: int, unused: int) -> None:
        """Give back what was reserved and not replayed."""
        person = self._person(user_id)
        person.replay_whole_at_s = self._limits.replay_bytes.give_back(person.replay_whole_at_s, unused)

    # -- pieces

    def _person(self, user_id: int) -> _Person:
        person = self._people.get(user_id)
        if person is None:
            person = self._people[user_id] = _Person()
        return person

    async def _tell(self, user_id: int) -> None:
        person = self._people.get(user_id)
        await self._everywhere.tell(user_id, person.sockets if person else 0)

    async def _live(self) -> None:
        now_s = self._monotonic_s()
        for user_id in [user_id for user_id, it in self._people.items() if it.is_forgettable(now_s)]:
            del self._people[user_id]
        if not await self._everywhere.live():
            for user_id, person in list(self._people.items()):
                if person.sockets:
                    await self._tell(user_id)
