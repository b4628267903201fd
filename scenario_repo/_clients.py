"""Which Supabase clients can be used, and where: a blocking one, a closed one and one of another event loop can't."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from contextlib import AbstractAsyncContextManager
from typing import Final

from httpx import AsyncClient as HttpClient
from supabase import AsyncClient, Client

from scenario_repo.exceptions import ConfigurationException

_CLOSED: Final = "the client is closed: use it inside the `async with` block that opened it"
_OF_ANOTHER_LOOP: Final = (
    "the client is of another event loop{state}: open one in each loop, with `async with connect()`; "
    "code without a loop of its own uses scenario_repo.blocking"
)

_loops: Final[weakref.WeakKeyDictionary[HttpClient, weakref.ref[asyncio.AbstractEventLoop]]] = (
    weakref.WeakKeyDictionary()
)
"""The event loop in which each HTTP client sent its first request: its connections belong to it."""


def checked_client(client: object) -> AsyncClient:
    """Return a ``supabase.AsyncClient``, or refuse anything else by name and say what to do.

    Raises:
        ConfigurationException: it is a blocking client, none at all, or not opened yet.

    """
    if isinstance(client, AsyncClient):
        return client
    if isinstance(client, Client):
        raise ConfigurationException(
            "expected a supabase.AsyncClient, got the blocking supabase.Client: "
            "open one with connect(), or use scenario_repo.blocking"
        )
    if isinstance(client, AbstractAsyncContextManager):
        raise ConfigurationException(
            "expected a supabase.AsyncClient, got a context manager that is not entered: "
            "`async with connect() as client`"
        )
    if inspect.iscoroutine(client):
        client.close()
        raise ConfigurationException(
            "expected a supabase.AsyncClient, got a coroutine: await create_async_client(…) first"
        )
    kind = type(client)
    raise ConfigurationException(f"expected a supabase.AsyncClient, got {kind.__module__}.{kind.__qualname__}")


def fault_of_use(http: HttpClient) -> str | None:
    """Say why a request can't be sent with this HTTP client in the running event loop; None: it can."""
    if http.is_closed:
        return _CLOSED
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None  # trio, which httpx can do with
    first = _loops.setdefault(http, weakref.ref(loop))()
    if first is loop:
        return None
    return _OF_ANOTHER_LOOP.format(state=", which is closed" if first is None or first.is_closed() else "")
