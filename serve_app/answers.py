"""Answers that are remembered as they go out: ready bytes, so that one from memory costs no serialising."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable

from fastapi import Response
from pydantic import BaseModel

from serve_app.cache import CacheName
from serve_app.ports import ApiPorts


async def remembered(
    ports: ApiPorts,
    name: CacheName,
    guild_id: int,
    key: Hashable,
    load: Callable[[], Awaitable[BaseModel]],
) -> Response:
    """Return what a cache remembers of a guild, or what ``load`` returns, as the body of an answer.

    The route names its model by ``response_model``: FastAPI describes it, and passes the answer on as it is.
    """

    async def ready() -> bytes:
        return (await load()).model_dump_json().encode()

    body = await ports.caches.get(name, guild_id, key, ready)
    return Response(body, media_type="application/json")
