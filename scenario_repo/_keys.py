"""Reads the role of a Supabase key or token, and what ails a token, from its form alone; only the server verifies."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping
from typing import Any, Final

_SKEW_SECONDS: Final = 30
"""How far clocks may be apart; PostgREST allows as much."""


def role_of(key: str) -> str | None:
    """Return the database role of a key or token, or None."""
    if not key.isascii() or not key.isprintable() or " " in key:
        return None
    if key.startswith("sb_secret_"):
        return "service_role"
    if key.startswith("sb_publishable_"):
        return "anon"
    role = (_claims(key) or {}).get("role")
    return role if isinstance(role, str) else None


def fault_of_token(token: str) -> str | None:
    """Say why a signed-in user's access token can't be one, or may not be used any more; None if it may be good."""
    if token.startswith("sb_") or role_of(token) in {"anon", "service_role"}:
        return "expected a signed-in user's access token, got a key of the project"
    claims = _claims(token)
    if claims is None:
        return "expected a signed-in user's access token (a JWT, without 'Bearer'), got something else"
    if claims.get("role") != "authenticated":
        return "expected a signed-in user's access token, got a token of another role"
    expiry = claims.get("exp")
    if isinstance(expiry, int | float) and expiry + _SKEW_SECONDS < time.time():
        return "the user's access token has expired: refresh it, or let the user sign in again"
    return None


def _claims(token: str) -> dict[str, Any] | None:
    """Return the claims of a JWT, unverified; None if it has not the form of one."""
    if not token.isascii() or not token.isprintable() or " " in token:
        return None
    try:
        _, payload, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, binascii.Error):
        return None
    return claims if isinstance(claims, dict) else None


def is_opaque(headers: Mapping[str, str]) -> bool:
    """Tell whether a request acts by an opaque key alone (``sb_…``), which has no times of its own."""
    key = headers.get("apikey", "")
    return key.startswith("sb_") and headers.get("Authorization", f"Bearer {key}") == f"Bearer {key}"


def acts_as_user(headers: Mapping[str, str]) -> bool:
    """Tell whether a request acts as a signed-in user."""
    return role_of(headers.get("Authorization", "").removeprefix("Bearer ")) == "authenticated"


def is_downgraded(headers: Mapping[str, str]) -> bool:
    """Tell whether a request has a worker's secret key as ``apikey``, but another token as bearer.

    When somebody signs in on a client, supabase-py puts that user's token into the client's headers. Row level
    security then applies to the worker, and its look-ups find nothing.
    """
    key = headers.get("apikey", "")
    return role_of(key) == "service_role" and headers.get("Authorization") != f"Bearer {key}"
