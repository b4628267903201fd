"""What a test needs from the PostgreSQL installation, beyond the server."""

from __future__ import annotations

import os

import pytest

from tests.postgres.install import missing_parts


def require_part(*names: str) -> None:
    """Skip the test loudly where a part of the installation is missing; fail in CI."""
    missing = sorted(set(names) & set(missing_parts()))
    if not missing:
        return
    message = f"missing: {', '.join(missing)}; run `python tests/postgres/install.py` as root"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
