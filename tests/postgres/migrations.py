"""Apply the migrations as the platform does, and compare what they make."""

# ruff: noqa: S603 (the commands are ours)

from __future__ import annotations

import re
import subprocess
from contextlib import closing
from pathlib import Path

import psycopg

from tests.postgres.install import ROOT, find_program
from tests.postgres.server import SUPERUSER, PostgresServer

MIGRATIONS = ROOT / "supabase" / "migrations"

# pg_dump's own comments, not those inside function bodies; 15.14 and later also
# write a \restrict line with a random key.
_NOISE = re.compile(r"\\(un)?restrict |--$|-- (Name|Data for Name): |-- Dumped |-- PostgreSQL database ")


class SchemaDumpError(RuntimeError):
    """pg_dump is missing or failed."""


def migration_files(folder: Path = MIGRATIONS) -> list[Path]:
    """Return the migrations, in the order of their timestamps."""
    return sorted(folder.glob("*.sql"))


def apply_migrations(url: str, folder: Path = MIGRATIONS) -> list[str]:
    """Execute every migration, each in a transaction of its own; return their names."""
    files = migration_files(folder)
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        for file in files:
            try:
                with connection.transaction():
                    connection.execute(file.read_bytes())
            except psycopg.Error as error:
                error.add_note(f"in migration {file.name}")
                raise
    return [file.name for file in files]


def schema_dump(server: PostgresServer, database: str) -> str:
    """Dump the whole schema as SQL, with owners and grants, fit for comparing."""
    program = find_program("pg_dump")
    if program is None:
        raise SchemaDumpError("pg_dump is missing: install postgresql-client-15")
    dump = subprocess.run(
        [program, "--schema-only", f"--dbname={server.url(database, SUPERUSER)}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if dump.returncode != 0:
        raise SchemaDumpError(f"pg_dump failed: {dump.stderr}")
    lines = (line.rstrip() for line in dump.stdout.splitlines())
    return "\n".join(line for line in lines if line and not _NOISE.match(line)) + "\n"
