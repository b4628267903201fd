"""connect() and connect_as_user(): Supabase clients for a worker and for a signed-in user.

Settings come from the arguments or, as on the Supabase platform, from the environment: ``SUPABASE_URL``, then
``SUPABASE_SECRET_KEYS`` (JSON, ``{"default": "sb_secret_…"}``), ``SUPABASE_SECRET_KEY`` or the legacy
``SUPABASE_SERVICE_ROLE_KEY``.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

import httpx
from pydantic import SecretStr
from supabase import AsyncClient, AsyncClientOptions, create_async_client

from scenario_repo._keys import role_of
from scenario_repo.exceptions import ConfigurationException

# Longer than Supabase's statement timeout for the API (8 s), so that the server's error still arrives.
DEFAULT_TIMEOUT: Final = httpx.Timeout(15.0, connect=5.0)
_LIMITS: Final = httpx.Limits(max_connections=20, max_keepalive_connections=20)


@asynccontextmanager
async def connect(
    url: str | None = None, key: str | SecretStr | None = None, *, timeout: httpx.Timeout | float = DEFAULT_TIMEOUT
) -> AsyncIterator[AsyncClient]:
    """Yield a worker's client, and close it afterwards.

    ``key`` is a secret key (``sb_secret_…`` or a legacy service_role JWT); ``timeout`` is in seconds, for each phase
    of a request. Use the client in the event loop that made it.

    Raises:
        ConfigurationException: the URL or key is missing or can't be used; nothing has been sent.

    """
    secret = _secret_key_from_environment(os.environ) if key is None else _revealed(key)
    if not secret:
        raise ConfigurationException("no key: give one, or set SUPABASE_SECRET_KEYS or SUPABASE_SECRET_KEY")
    role = role_of(secret)
    if role != "service_role":
        raise ConfigurationException(
            "expected a secret key (sb_secret_… or a legacy service_role key), "
            f"got {'a publishable key' if role == 'anon' else 'something else'}"
        )
    async with _client(url, secret, timeout) as client:
        yield client


@asynccontextmanager
async def connect_as_user(
    access_token: str | SecretStr,
    url: str | None = None,
    key: str | SecretStr | None = None,
    *,
    timeout: httpx.Timeout | float = DEFAULT_TIMEOUT,
) -> AsyncIterator[AsyncClient]:
    """Yield a client that acts as one signed-in user: it reads that user's own notifications and can't write.

    ``key`` is a publishable key (``sb_publishable_…`` or a legacy anon JWT; ``SUPABASE_PUBLISHABLE_KEY`` or
    ``SUPABASE_ANON_KEY`` when not given), ``access_token`` the user's.

    Raises:
        ConfigurationException: the URL, key or token is missing or can't be used; nothing has been sent.

    """
    environment = os.environ
    publishable = (
        environment.get("SUPABASE_PUBLISHABLE_KEY") or environment.get("SUPABASE_ANON_KEY")
        if key is None
        else _revealed(key)
    )
    if not publishable:
        raise ConfigurationException("no key: give one, or set SUPABASE_PUBLISHABLE_KEY")
    if role_of(publishable) != "anon":
        raise ConfigurationException("expected a publishable key (sb_publishable_… or a legacy anon key)")
    token = _revealed(access_token)
    if not token or role_of(token) != "authenticated":
        raise ConfigurationException("expected a signed-in user's access token")
    async with _client(url, publishable, timeout, {"Authorization": f"Bearer {token}"}) as client:
        yield client


@asynccontextmanager
async def _client(
    url: str | None, key: str, timeout: httpx.Timeout | float, headers: Mapping[str, str] | None = None
) -> AsyncIterator[AsyncClient]:
    address = _checked_url(os.environ.get("SUPABASE_URL") if url is None else url)
    async with httpx.AsyncClient(timeout=timeout, limits=_LIMITS, follow_redirects=False) as http:
        options = AsyncClientOptions(
            httpx_client=http,
            postgrest_client_retry=False,
            auto_refresh_token=False,
            persist_session=False,
        )
        options.headers.update(headers or {})
        yield await create_async_client(address, key, options)


def _checked_url(url: str | None) -> str:
    """Return the project's URL, or raise ConfigurationException, which never quotes it: it may hold a password."""
    if not url:
        raise ConfigurationException("no URL: give one, or set SUPABASE_URL")
    parsed = _parsed_url(url)
    if parsed is None or not 0 <= (parsed.port or 0) < 2**16:
        raise ConfigurationException("expected the project's URL, got something that is not one")
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigurationException("expected the project's URL, starting with https://")
    if parsed.scheme == "http" and not _is_loopback(parsed.host):
        raise ConfigurationException("expected https://: http:// would send the key in the clear beyond this machine")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise ConfigurationException("expected the project's URL alone, without user, query or fragment")
    return str(parsed).rstrip("/")


def _parsed_url(url: str) -> httpx.URL | None:
    try:
        return httpx.URL(url)
    except httpx.InvalidURL:
        return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _revealed(secret: str | SecretStr | None) -> str | None:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret


def _secret_key_from_environment(environment: Mapping[str, str]) -> str | None:
    if named := environment.get("SUPABASE_SECRET_KEYS"):
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(named)["default"])
        raise ConfigurationException('expected SUPABASE_SECRET_KEYS to be JSON: {"default": "sb_secret_…"}')
    return environment.get("SUPABASE_SECRET_KEY") or environment.get("SUPABASE_SERVICE_ROLE_KEY")
