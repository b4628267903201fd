"""What a Supabase key or token stands for, told from its look alone; only the server can say whether it is genuine."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping


def role_of(key: str) -> str | None:
    """Tell the database role a key or token stands for, or None."""
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


def is_downgraded(headers: Mapping[str, str]) -> bool:
    """Tell whether a request carries a worker's secret key, and yet speaks as somebody else.

    supabase-py puts the user's token into the client's headers when somebody signs in on it; row level security then
    applies to the worker, whose look-ups find nothing.
    """
    key = headers.get("apikey", "")
    return role_of(key) == "service_role" and headers.get("Authorization") != f"Bearer {key}"
