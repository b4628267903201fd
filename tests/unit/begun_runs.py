"""What a database answers to an engine that begins a run."""

from __future__ import annotations

import httpx
import respx

from scenario_repo import ScenarioType
from tests.factories import function_arguments


def serve_run(router: respx.MockRouter, *own: str) -> None:
    """Begin each run as a database where nothing has been evaluated; it has the built-in types, and the app's own."""

    def begin(request: httpx.Request) -> httpx.Response:
        given = function_arguments(request)["p_scenario_types"] or [*ScenarioType, *own]
        passes = [{"scenario_type": kind, "place": place, "page_size": None} for place, kind in enumerate(given, 1)]
        return httpx.Response(200, json={"passes": passes})

    router.post("/rpc/scenario_begin_run").mock(side_effect=begin)
