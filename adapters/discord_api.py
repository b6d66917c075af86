"""Questions to Discord's REST API that are asked outside a bot's connection."""

from __future__ import annotations

import httpx2
import msgspec

from adapters.discord_answers import Gateway, NotDiscord, Refusal, read
from domain.errors import BotRefused

TIMEOUT_S = 15.0


class GatewayInfo(msgspec.Struct, frozen=True):
    """What Discord says about connecting: where, with how many shards, and how many at once."""

    url: str
    shards: int
    max_concurrency: int
    starts_left: int


async def ask_gateway(api_base: str, token: str) -> GatewayInfo:
    """Ask how to connect, which also proves the token.

    Raises:
        BotRefused: the token is wrong, or Discord cannot be reached; the sentence says which.

    """
    headers = {"Authorization": f"Bot {token}", "User-Agent": "DiscordBot (guildhall, 0.1)"}
    try:
        async with httpx2.AsyncClient(timeout=TIMEOUT_S) as client:
            response = await client.get(f"{api_base}/gateway/bot", headers=headers)
    except httpx2.HTTPError as error:
        raise BotRefused(f"Discord cannot be reached at {api_base}: {type(error).__name__}.") from error
    if response.status_code == httpx2.codes.UNAUTHORIZED and _is_discords(response):
        raise BotRefused(
            "Discord does not know this bot token: copy it anew from the developer portal "
            "(Bot → Reset Token) into GUILDHALL_DISCORD_TOKEN."
        )
    if response.status_code != httpx2.codes.OK:
        raise BotRefused(f"Discord answered {response.status_code} when asked for the gateway; try again.")
    try:
        gateway = read(response.content, Gateway)
    except NotDiscord as error:
        raise BotRefused(f"What answers at {api_base} is not Discord.") from error
    limit = gateway.session_start_limit
    return GatewayInfo(gateway.url, gateway.shards, limit.max_concurrency, limit.remaining)


def _is_discords(response: httpx2.Response) -> bool:
    """Return whether a refusal is Discord's own, not that of a proxy on the way."""
    try:
        return read(response.content, Refusal).code is not None
    except NotDiscord:
        return False
