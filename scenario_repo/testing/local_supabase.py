"""LocalSupabase: the embedded stack for an app's own tests, with the app's migrations, cleaned between tests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psycopg
from supabase import AsyncClient, AsyncClientOptions

from scenario_repo._project import copy_migrations
from scenario_repo.repository import ScenarioNotificationRepository
from scenario_repo.testing._clean_slate import CleanSlate
from scenario_repo.testing.embedded_stack import embedded_stack
from scenario_repo.testing.time_travel import travel

TOKEN_LASTS: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class LocalSupabase:
    """A running Supabase: its addresses, and the keys of this run (never in the repr)."""

    url: str
    secret_key: str = field(repr=False)
    publishable_key: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    database_url: str = field(repr=False)
    """For psycopg: the owner, ``postgres``. One session serves all: commit before the next request over HTTP."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that :func:`scenario_repo.connect`, ``connect_as_user`` and the command line read."""
        return {
            "SUPABASE_URL": self.url,
            "SUPABASE_SECRET_KEY": self.secret_key,
            "SUPABASE_PUBLISHABLE_KEY": self.publishable_key,
        }

    def repository(self) -> ScenarioNotificationRepository:
        """Return a worker's repository. It keeps no connection, so it belongs to no event loop and needs no closing."""
        return ScenarioNotificationRepository(self._client(self.secret_key, self.secret_key))

    def repository_of(self, user_id: UUID) -> ScenarioNotificationRepository:
        """Return the repository of a signed-in user, as :meth:`repository` does."""
        return ScenarioNotificationRepository(self._client(self.publishable_key, self.access_token(user_id)))

    def new_user(self) -> UUID:
        """Create a user, and return the id."""
        user_id = uuid4()
        self.execute("insert into auth.users (id) values (%s)", user_id)
        return user_id

    def access_token(self, user_id: UUID, lasts: timedelta = TOKEN_LASTS) -> str:
        """Sign a user's access token, as Auth would at a sign-in."""
        now = int(time.time())
        claims = {"sub": str(user_id), "role": "authenticated", "aud": "authenticated", "iat": now}
        return _signed({**claims, "exp": now + int(lasts.total_seconds())}, self.jwt_secret)

    def execute(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement as the owner, and return its rows."""
        with psycopg.connect(self.database_url, autocommit=True, prepare_threshold=None) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def travel(self, passes: timedelta, *tables: str) -> None:
        """Let time pass, as :func:`~scenario_repo.testing.travel` does; ``tables`` are further ones."""
        travel(self.database_url, passes, tables=tables)

    def _client(self, key: str, token: str) -> AsyncClient:
        no_keep_alive = httpx.Limits(max_keepalive_connections=0)
        options = AsyncClientOptions(
            httpx_client=httpx.AsyncClient(limits=no_keep_alive, timeout=30),
            postgrest_client_retry=False,
            auto_refresh_token=False,
            persist_session=False,
        )
        options.headers["Authorization"] = f"Bearer {token}"
        return AsyncClient(self.url, key, options)


@contextmanager
def local_supabase(migrations: Path | None = None) -> Iterator[tuple[LocalSupabase, CleanSlate]]:
    """Run the stack with scenario_repo's migrations and those of a project's folder, for as long as the block lasts.

    What the folder does not have of scenario_repo's comes after its newest, as ``scenario-repo migrations`` would copy
    it there; the folder itself is not changed.

    Raises:
        EmbeddedStackError: the stack is not installed, or a migration fails.

    """
    with tempfile.TemporaryDirectory() as folder:
        together = Path(folder)
        for file in sorted(migrations.glob("*.sql")) if migrations is not None else ():
            shutil.copyfile(file, together / file.name)
        copy_migrations(together, datetime.now(UTC))
        with embedded_stack(migrations=together) as stack:
            local = LocalSupabase(
                stack.url, stack.secret_key, stack.publishable_key, stack.jwt_secret, stack.database_url
            )
            yield local, CleanSlate(local.database_url)


def _signed(claims: dict[str, object], secret: str) -> str:
    header, payload = (_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    signature = hmac.new(secret.encode(), f"{header}.{payload}".encode(), hashlib.sha256).digest()
    return f"{header}.{payload}.{_base64url(signature)}"


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
