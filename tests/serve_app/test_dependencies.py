"""What routes declare costs a request microseconds."""

from __future__ import annotations

import inspect

from fastapi.routing import iter_route_contexts

from tests.serve_app.declared import calls_of
from tests.serve_app.web import Web


async def test_nothing_is_sent_to_a_thread(web: Web) -> None:
    """FastAPI runs a plain function in a thread, which costs more than what it does: there is none."""
    for route in iter_route_contexts(web.app.routes):
        if hasattr(route, "dependant") and route.include_in_schema:
            for call in (route.dependant.call, *calls_of(route.dependant)):
                run = call if inspect.isfunction(call) else type(call).__call__
                assert inspect.iscoroutinefunction(run), (route.path, call)
