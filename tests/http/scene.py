"""The scene of the acts over HTTP: the tables, the actors, and three people with a row everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx
import jwt
import psycopg

from tests.http.supabase_platform import Platform


@dataclass(frozen=True)
class Table:
    """How a table is written to. In the values, USER and ORGANIZATION are the actor's or the victim's own."""

    row: Mapping[str, str]
    change: Mapping[str, object]
    key: str
    readable: bool = False
    belongs: str = "user_id"
    """The column that says whose a row is."""


USER, ORGANIZATION = "{user}", "{organization}"
TABLES: Final = {
    "scenario_notifications": Table(
        {"user_id": USER, "organization_id": ORGANIZATION, "scenario_type": "inactivity"},
        {"metadata": {"changed": True}},
        "id",
        readable=True,
    ),
    "peer_mentors": Table(
        {"user_id": USER, "organization_id": ORGANIZATION}, {"is_active": False}, "user_id,organization_id"
    ),
    "activities": Table(
        {"user_id": USER, "organization_id": ORGANIZATION, "activity_date": "2026-06-01T12:00:00Z"},
        {"activity_date": "2026-06-02T12:00:00Z"},
        "id",
    ),
    "certifications": Table(
        {"user_id": USER, "organization_id": ORGANIZATION, "expires_at": "2026-06-01T12:00:00Z"},
        {"expires_at": "2026-06-02T12:00:00Z"},
        "id",
    ),
    "device_tokens": Table(
        {"user_id": USER, "token": f"token of {USER}", "platform": "ios"}, {"platform": "web"}, "user_id,token"
    ),
    "scenario_evaluation_config": Table(
        {"scenario_type": "inactivity", "organization_id": ORGANIZATION},
        {"is_enabled": False},
        "scenario_type,organization_id",
        belongs="organization_id",
    ),
    "scenario_delivery_policy": Table(
        {"organization_id": ORGANIZATION}, {"time_zone": "Europe/Oslo"}, "organization_id", belongs="organization_id"
    ),
    "scenario_days_off": Table(
        {"organization_id": ORGANIZATION, "first_day": "2026-12-24", "last_day": "2026-12-24"},
        {"last_day": "2026-12-25"},
        "id",
        belongs="organization_id",
    ),
}
"""The tables that nobody but the service writes."""
MUTES: Final = "scenario_mutes"
"""The table that users write: each her own."""

NEIGHBOUR, FOREIGNER = "stranger in the same organization", "stranger in another"
DENIED, ANONYMOUS, EXPIRED, TAMPERED = (403, "42501"), (401, "42501"), (401, "PGRST303"), (401, "PGRST301")
ACTORS: Final = {
    "owner": DENIED,
    NEIGHBOUR: DENIED,
    FOREIGNER: DENIED,
    "anonymous": ANONYMOUS,
    "expired token": EXPIRED,
    "tampered token": TAMPERED,
}
"""Who tries, and what everything but reading one's own notifications comes to."""


@dataclass
class Scene:
    """Three people with a row in every table, and a connection that sees whether it stays so."""

    platform: Platform
    http: httpx.Client
    owner: psycopg.Connection
    people: dict[str, tuple[UUID, UUID]]
    ids: dict[str, UUID] = field(default_factory=dict)
    """The notification of each."""
    _headers: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    def headers(self, actor: str) -> dict[str, str]:
        """Carry the actor's key and token."""
        platform = self.platform
        if actor == "service":
            return {"apikey": platform.secret_key, "Authorization": f"Bearer {platform.secret_key}"}
        if actor == "anonymous":
            return {"apikey": platform.publishable_key}
        user_id, _ = self.people[actor if actor in self.people else "owner"]
        if actor == "expired token":
            token = platform.access_token(user_id, seconds=-600)
        elif actor == "tampered token":
            token = tampered(platform.access_token(user_id))
        else:
            token = platform.access_token(user_id)
        return {"apikey": platform.publishable_key, "Authorization": f"Bearer {token}"}

    def ask(  # noqa: PLR0913 - a request
        self,
        actor: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        prefer: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send one request as the actor."""
        if actor not in self._headers:
            self._headers[actor] = self.headers(actor)
        said = self._headers[actor] | ({"Prefer": prefer} if prefer else {}) | dict(headers or {})
        return self.http.request(method, f"/{path}", params=params, json=json, headers=said)

    def row(self, table: str, person: str) -> dict[str, object]:
        """Make a row of that person's."""
        user_id, organization_id = self.people[person]
        return {
            column: value.format(user=user_id, organization=organization_id)
            for column, value in TABLES[table].row.items()
        }

    def whose(self, table: str, *people: str) -> dict[str, str]:
        """Filter on the rows of these people."""
        column = TABLES[table].belongs
        place = 0 if column == "user_id" else 1
        return {column: f"in.({','.join(sorted({str(self.people[person][place]) for person in people}))})"}

    def contents(self) -> list[tuple[Any, ...]]:
        """Read every row of the scene, whole, in every table."""
        users = [user for user, _ in self.people.values()]
        organizations = [organization for _, organization in self.people.values()]
        statement = " union all ".join(
            f"select '{name}', to_jsonb(t)::text from public.{name} as t"  # noqa: S608 - names of our own
            f" where {table.belongs} = any(%({table.belongs})s)"
            for name, table in TABLES.items()
        )
        parameters = {"user_id": users, "organization_id": organizations}
        return self.owner.execute(f"{statement} order by 1, 2".encode(), parameters).fetchall()


def tampered(token: str) -> str:
    """Change whom a token is for, and leave its signature."""
    header, payload, signature = token.split(".")
    claims = jwt.decode(token, options={"verify_signature": False}) | {"role": "service_role"}
    payload = jwt.encode(claims, "another one, just as long as the real one is", algorithm="HS256").split(".")[1]
    return f"{header}.{payload}.{signature}"
