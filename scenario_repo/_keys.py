"""Reads the role of a Supabase key or token from its format alone; only the server can verify it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping


def role_of(key: str) -> str | None:
    """Return the database role of a key or token, or None."""
    if not key.isascii() or not key.isprintable() or " " in key:
        return None
    if key.startswith("sb_secret_"):
        return "service_role"
    if key.startswith("sb_publishable_"):
        return "anon"
    try:
        _, payload, _ = key.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        role = claims["role"]
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
    return role if isinstance(role, str) else None


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
