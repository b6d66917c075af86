"""Every error of ours: one root, and one class per thing a caller can do something about."""

from __future__ import annotations


class GuildhallError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        """Take a sentence for a person; without one, the class's docstring speaks."""
        super().__init__(message or (type(self).__doc__ or "").strip())


class DataFolderUnusable(GuildhallError):
    """The data folder cannot be used."""


class ServiceFailed(GuildhallError):
    """A service that Guildhall runs for itself did not start or stopped."""


class ReplicaAiling(GuildhallError):
    """Tasks of an API replica or a relay cannot go on; a new one may do better."""


class ConfigurationInvalid(GuildhallError):
    """The settings do not fit together."""


class MalformedBatch(GuildhallError):
    """A batch could not be decoded."""


class MalformedMessage(GuildhallError):
    """A WebSocket message could not be understood."""


class StoreUnavailable(GuildhallError):
    """The database cannot be reached right now."""


class QueryTooSlow(GuildhallError):
    """The database took longer over a question than anybody waits."""


class Fenced(GuildhallError):
    """This incarnation of a host, or of the Director, is over; it must not write any more."""


class RunnerReplaced(GuildhallError):
    """A later life of this shard runner has begun; what this one sends is not taken any more."""

    def __init__(
        self, message: str | None = None, *, lives: frozenset[tuple[str, int]] = frozenset()
    ) -> None:
        """Take the lives that are over: ids and incarnations."""
        super().__init__(message)
        self.lives = lives


class HistoryTakenBack(Fenced):
    """The database was restored to an earlier time: what this life knows may never have been."""


class NotOwner(GuildhallError):
    """The guild belongs to another host."""


class TooManySockets(GuildhallError):
    """This person already watches this guild on as many sockets as are allowed."""


class LoginFailed(GuildhallError):
    """Discord did not confirm the login."""


class SessionsUnavailable(GuildhallError):
    """The session store cannot be reached right now."""


class SealBroken(GuildhallError):
    """What was sealed cannot be opened with any of today's keys."""


class HostUnreachable(GuildhallError):
    """A guild host did not answer; whether it took the call is not known."""


class ActorEnded(HostUnreachable):
    """The actor is gone for good; no call will ever reach it."""


class BotRefused(GuildhallError):
    """Discord does not let the bot in."""


class BatchTaken(GuildhallError):
    """A batch of the commit is in the database already; nothing of the commit was written."""


class EventRefused(GuildhallError):
    """The database does not take something in the commit. The reason quotes nothing of what it is."""


class PlacementTaken(GuildhallError):
    """A placement of this version is written already; it stays as it is."""


class NoSuchHost(GuildhallError):
    """What an operator named is not there, or cannot be taken away."""


class VersionConflict(GuildhallError):
    """Somebody else changed it meanwhile."""

    def __init__(self, message: str | None = None, *, current_version: int = 0) -> None:
        """Take the version that is there now, 0 for none."""
        super().__init__(message)
        self.current_version = current_version


class DiscordUnavailable(GuildhallError):
    """Discord did not give an answer that could be used."""


class DiscordBusy(DiscordUnavailable):
    """Discord asks to be left alone for a while."""

    def __init__(
        self, message: str | None = None, *, retry_after_s: float = 1.0, everywhere: bool = True
    ) -> None:
        """Take the seconds for which nothing may be asked, or only nothing of the same kind."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.everywhere = everywhere


class RolesUnavailable(HostUnreachable):
    """Roles cannot be checked right now; whether a change of them was made is not known."""


class MayNotChangeRoles(GuildhallError):
    """Only an owner changes roles."""


class DiscordOwnerStays(GuildhallError):
    """This person owns the server on Discord, and is owner here for as long as that is so."""


class LastOwner(GuildhallError):
    """The server would have no owner then. Make somebody else owner first."""


class NoSuchRole(GuildhallError):
    """There is no such role to take away."""


class TooManyMappings(GuildhallError):
    """A server cannot map more roles than Discord lets it have."""
