"""Where platforms answer differently, by name, and what is asserted on each.

``supabase`` is a real PostgREST, as Supabase runs it (14.17 was asked). ``lite`` is the embedded stack's stand-in for
PostgREST and the gateway; ``supabase/local/README.md`` has the measurements. A test whose expectation depends on it
names a difference here and takes ``DIFFERENCE.on(platform)``; everything else holds on both.
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
HEAD_OF_A_STABLE_FUNCTION: Final = Difference(
    "HEAD on a function that only reads: PostgREST answers with an empty body and does not run it, whoever asks",
    supabase=frozenset({200}),
    lite=HEAD_OF_A_FUNCTION.lite,
)
DATABASE_GONE: Final = Difference(
    "while PostgreSQL is away Lite answers 500 with these codes, PostgREST 503 PGRST001; put right on the wire",
    supabase=frozenset[str](),
    lite=frozenset({"SUP", "57P01", "57P03"}),
)

REFUSED_AS_THE_SERVERS_FAULT: Final = Difference(
    "a 500 that refuses: JSON 20,000 levels deep is PostgreSQL's 54001; on Lite whatever its own encoders can't take"
    " (that, a number for a timestamp) is SUP, before any statement",
    supabase=frozenset({"54001"}),
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
