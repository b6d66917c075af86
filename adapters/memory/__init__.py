"""In-memory twins of the adapters: the same ports, the same meaning, nothing outside the process.

For tests and for trying things out; one contract suite holds each to its real adapter.
"""

from adapters.memory.announcements import MemoryAnnouncer
from adapters.memory.audit import MemoryAuditLog
from adapters.memory.authority import MemoryAuthorityStore
from adapters.memory.clock import MemoryClock
from adapters.memory.counts import MemoryCounts
from adapters.memory.database import MemoryDashboardStore, MemoryDatabase, MemoryGuildStore
from adapters.memory.discord import MemoryBot, MemoryLogin
from adapters.memory.identify import MemoryIdentifyGrants
from adapters.memory.insights import MemoryInsightStore
from adapters.memory.network import MemoryNetwork, MemoryNetworkStore
from adapters.memory.open_sockets import MemoryOpenSockets, SharedSockets
from adapters.memory.people import MemoryPeople, MemoryPersonMemory, MemoryPersonSource
from adapters.memory.rates import MemoryRateLimiter
from adapters.memory.roles import MemoryMembers, MemoryRoleStore
from adapters.memory.sessions import MemoryEndedSessions, MemorySessions
from adapters.memory.settings import MemorySettingsStore
from adapters.memory.spool import MemorySpool
from adapters.memory.supervision import MemorySupervision
from adapters.memory.user_warnings import MemoryWarningStore

__all__ = [
    "MemoryAnnouncer",
    "MemoryAuditLog",
    "MemoryAuthorityStore",
    "MemoryBot",
    "MemoryClock",
    "MemoryCounts",
    "MemoryDashboardStore",
    "MemoryDatabase",
    "MemoryEndedSessions",
    "MemoryGuildStore",
    "MemoryIdentifyGrants",
    "MemoryInsightStore",
    "MemoryLogin",
    "MemoryMembers",
    "MemoryNetwork",
    "MemoryNetworkStore",
    "MemoryOpenSockets",
    "MemoryPeople",
    "MemoryPersonMemory",
    "MemoryPersonSource",
    "MemoryRateLimiter",
    "MemoryRoleStore",
    "MemorySessions",
    "MemorySettingsStore",
    "MemorySpool",
    "MemorySupervision",
    "MemoryWarningStore",
    "SharedSockets",
]
