"""What may be opened at most; that a server allows it is asked in tests/contract."""

from pathlib import Path

from guildhall.connection_budget import RESERVE, connection_budget
from guildhall.settings import Settings


def _settings(**given: int) -> Settings:
    return Settings(static_dir=Path("web"), **given)  # type: ignore[arg-type]


def test_every_process_has_its_share() -> None:
    """Sixteen hosts, four API replicas and four relays: the sum of their pools, and a reserve."""
    budget = connection_budget(_settings(hosts=16, api_replicas=4, relay_replicas=4, user_resolvers=2))
    assert budget.total == RESERVE + 16 * 3 + 3 + 8 + 2 * 2 + 4 * 12 + 8 * 2
    assert "16 × 3 for guild hosts" in str(budget)


def test_one_more_host_costs_what_its_pool_holds() -> None:
    """The budget grows with the processes, and with nothing else."""
    assert connection_budget(_settings(hosts=3)).total - connection_budget(_settings(hosts=2)).total == 3
