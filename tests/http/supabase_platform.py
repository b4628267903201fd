"""A Supabase to test against, whichever it is, and the people who use it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import jwt
import psycopg

from scenario_repo import ScenarioNotificationRepository, connect, connect_as_user
from tests.rows import insert_users

TOKEN_SECONDS = 600


@dataclass(frozen=True)
class Platform:
    """The addresses and keys of a running Supabase, and what is special about it."""

    name: str
    url: str
    database_url: str = field(repr=False)
    secret_key: str = field(repr=False)
    publishable_key: str = field(repr=False)
    jwt_secret: str = field(repr=False)

    @property
    def is_lite(self) -> bool:
        """Whether this is the embedded stack, with the differences listed in platform_differences.py."""
        return self.name.startswith("lite")

    def owner(self) -> psycopg.Connection:
        """Connect as the database's owner, in autocommit."""
        return psycopg.connect(self.database_url, autocommit=True, prepare_threshold=None)

    def execute(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Run a statement as the database's owner."""
        with self.owner() as owner:
            cursor = owner.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def new_users(self, number: int) -> list[UUID]:
        """Create users, and return their ids."""
        ids = [uuid4() for _ in range(number)]
        with self.owner() as owner:
            insert_users(owner, ids)
        return ids

    def delete_users(self, ids: list[UUID]) -> None:
        """Delete users, and with them all they have."""
        self.execute("delete from auth.users where id = any(%s::uuid[])", ids)

    def access_token(self, user_id: UUID, *, seconds: int = TOKEN_SECONDS, signed_with: str | None = None) -> str:
        """Mint a signed-in user's token."""
        now = int(time.time())
        claims = {
            "sub": str(user_id),
            "role": "authenticated",
            "aud": "authenticated",
            "iat": now - 3600,
            "exp": now + seconds,
        }
        return jwt.encode(claims, signed_with or self.jwt_secret, algorithm="HS256")

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[ScenarioNotificationRepository]:
        """Connect as a worker."""
        async with connect(self.url, self.secret_key) as client:
            yield ScenarioNotificationRepository(client)

    @asynccontextmanager
    async def user(self, user_id: UUID) -> AsyncIterator[ScenarioNotificationRepository]:
        """Connect as a signed-in user."""
        async with connect_as_user(self.access_token(user_id), self.url, self.publishable_key) as client:
            yield ScenarioNotificationRepository(client)
