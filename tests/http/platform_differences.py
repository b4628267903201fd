"""Where the embedded stack answers otherwise than Supabase, by name, and what is asserted on each.

Supabase Lite stands in for PostgREST and the gateway; ``supabase/local/README.md`` has the measurements. A test whose
expectation depends on it names a difference here and takes ``DIFFERENCE.on(platform)``; everything else holds on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from tests.http.supabase_platform import Platform

T = TypeVar("T")


@dataclass(frozen=True)
class Difference(Generic[T]):
    """One case, and what is asserted of it on each kind of platform."""

    case: str
    supabase: T
    lite: T
    on_pglite: T | None = None
    """Where the embedded PostgreSQL differs from Lite on a real one."""

    def on(self, platform: Platform) -> T:
        """Return what holds on this platform."""
        if not platform.is_lite:
            return self.supabase
        if self.on_pglite is not None and platform.name.endswith("PGlite"):
            return self.on_pglite
        return self.lite


# Answers ---------------------------------------------------------------------------------------------------------

FORGED_TOKEN: Final = Difference(
    "a token that is not a JWT counts as none: the request is the publishable key's, which may do nothing",
    supabase=frozenset({"PGRST301"}),
    lite=frozenset({"42501", "PGRST301"}),
)
EMBEDDING_REFUSED: Final = Difference(
    "tables without a relationship can't be embedded; Lite follows a foreign key into schema auth, to nothing",
    supabase=frozenset({"PGRST200", "PGRST119", "PGRST120"}),
    lite=frozenset({"PGRST200", "PGRST119", "PGRST120", "42P01"}),
)
OPENAPI_LISTS_TABLES: Final = Difference(
    "the OpenAPI root is there and names no table; the catalogue is asked instead",
    supabase=True,
    lite=False,
)
HEAD_OF_A_FUNCTION: Final = Difference(
    "HEAD on a function: Lite does not read the arguments as GET does, and refuses the request before it runs",
    supabase=frozenset[int](),
    lite=frozenset({400}),
)
REPLACES_BY_PUT: Final = Difference(
    "PUT, PostgREST's upsert of a single row, is not there: refused before anybody's rights are looked at",
    supabase=frozenset[int](),
    lite=frozenset({404, 405}),
)
DATABASE_GONE: Final = Difference(
    "while PostgreSQL is away Lite answers 500 with these codes, PostgREST 503 PGRST001; put right on the wire",
    supabase=frozenset[str](),
    lite=frozenset({"SUP", "57P01", "57P03"}),
)

REFUSED_BEFORE_POSTGRESQL: Final = Difference(
    "what Lite's own encoders can't take (a number for a timestamp, 20,000 levels) is its 500, before any statement",
    supabase=frozenset[str](),
    lite=frozenset({"SUP"}),
)
ANY_JSON_REACHES_POSTGRESQL: Final = Difference(
    "PGlite's one session stays in a failed transaction when the JSON of an argument is of another kind altogether",
    supabase=True,
    lite=True,
    on_pglite=False,
)
SURVIVES_ITS_DATABASE: Final = Difference(
    "Lite's PostgreSQL client writes to a connection that is gone, which ends the process: Node is told to carry on",
    supabase={},
    lite={"NODE_OPTIONS": "--import=data:text/javascript,process.on('uncaughtException',()=>{})"},
)

# Limits ----------------------------------------------------------------------------------------------------------

LARGEST_BATCH: Final = Difference(
    "PostgreSQL in WebAssembly takes several times as long for the 20,000 claims of a full batch",
    supabase=20_000,
    lite=20_000,
    on_pglite=2_000,
)
