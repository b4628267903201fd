"""connect() and connect_as_user(): Supabase clients for a worker and for a signed-in user.

Several clients may share the connections of one HTTP client, see open_http_client().

Settings come from the arguments or, as on the Supabase platform, from the environment: ``SUPABASE_URL``, then
``SUPABASE_SECRET_KEYS`` (JSON, ``{"default": "sb_secret_…"}``), ``SUPABASE_SECRET_KEY`` or the legacy
``SUPABASE_SERVICE_ROLE_KEY``.
"""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx
from pydantic import SecretStr
from supabase import AsyncClient, AsyncClientOptions, create_async_client

from scenario_repo._keys import fault_of_token, role_of
from scenario_repo.exceptions import ConfigurationException, PermissionDeniedException

# Longer than Supabase's statement timeout for the API (8 s), so that the server's error still arrives.
DEFAULT_TIMEOUT: Final = httpx.Timeout(15.0, connect=5.0)
_LIMITS: Final = httpx.Limits(max_connections=20, max_keepalive_connections=20)


@asynccontextmanager
async def open_http_client(*, timeout: httpx.Timeout | float = DEFAULT_TIMEOUT) -> AsyncIterator[httpx.AsyncClient]:
    """Yield an HTTP client that clients may share: they keep its connections open, each with its own key and token.

    It follows no redirects and keeps no cookies, which one user's answer could set for the next. ``timeout`` is in
    seconds, for each phase of a request.
    """
    no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
    tls = _tls_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    async with httpx.AsyncClient(
        timeout=timeout, limits=_LIMITS, follow_redirects=False, cookies=no_cookies, verify=tls
    ) as http:
        yield http


@asynccontextmanager
async def connect(
    url: str | None = None,
    key: str | SecretStr | None = None,
    *,
    timeout: httpx.Timeout | float = DEFAULT_TIMEOUT,
    http_client: httpx.AsyncClient | None = None,
) -> AsyncIterator[AsyncClient]:
    """Yield a worker's client, and close it afterwards.

    ``key`` is a secret key (``sb_secret_…`` or a legacy service_role JWT); ``timeout`` is in seconds, for each phase
    of a request. With an ``http_client`` it is that one's, which stays open. Use the client in the event loop that
    made it.

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
    async with _client(url, secret, timeout, http_client) as client:
        yield client


@asynccontextmanager
async def connect_as_user(
    access_token: str | SecretStr,
    url: str | None = None,
    key: str | SecretStr | None = None,
    *,
    timeout: httpx.Timeout | float = DEFAULT_TIMEOUT,
    http_client: httpx.AsyncClient | None = None,
) -> AsyncIterator[AsyncClient]:
    """Yield a client that acts as one signed-in user: it reads that user's own notifications and can't write.

    ``key`` is a publishable key (``sb_publishable_…`` or a legacy anon JWT; ``SUPABASE_PUBLISHABLE_KEY`` or
    ``SUPABASE_ANON_KEY`` when not given), ``access_token`` the user's. Whoever serves many users gives an
    ``http_client`` (:func:`open_http_client`): they share its connections and its timeout, and it never has a token.

    Raises:
        ConfigurationException: the URL or key is missing or can't be used; nothing has been sent.
        PermissionDeniedException: the token is none of a signed-in user, or has expired; nothing has been sent.

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
    address = _checked_url(os.environ.get("SUPABASE_URL") if url is None else url)
    token = _revealed(access_token)
    fault = fault_of_token(token) if isinstance(token, str) else "expected a signed-in user's access token, got no text"
    if fault is not None:
        raise PermissionDeniedException(fault)
    headers = {"Authorization": f"Bearer {token}"}
    async with _client(address, publishable, timeout, http_client, headers) as client:
        yield client


@asynccontextmanager
async def _client(
    url: str | None,
    key: str,
    timeout: httpx.Timeout | float,
    shared: httpx.AsyncClient | None,
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[AsyncClient]:
    address = _checked_url(os.environ.get("SUPABASE_URL") if url is None else url)
    async with open_http_client(timeout=timeout) if shared is None else _kept_open(shared) as http:
        options = AsyncClientOptions(
            httpx_client=http,
            postgrest_client_retry=False,
            auto_refresh_token=False,
            persist_session=False,
        )
        options.headers.update(headers or {})
        yield await create_async_client(address, key, options)


@asynccontextmanager
async def _kept_open(shared: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """Yield an HTTP client whose owner closes it."""
    if not isinstance(shared, httpx.AsyncClient):
        raise ConfigurationException(f"http_client: expected an httpx.AsyncClient, got {type(shared).__name__}")
    if shared.is_closed:
        raise ConfigurationException("http_client: expected an open one, got one that is closed")
    yield shared


@cache
def _tls_context(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:  # noqa: ARG001 - what httpx reads
    """Return the TLS context for the certificates that the environment names; to load them takes 20 ms each time."""
    return httpx.create_ssl_context()


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
    if parsed.path.rstrip("/").endswith("/rest/v1"):
        raise ConfigurationException("expected the project's URL without /rest/v1, which the client adds")
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
