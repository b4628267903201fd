"""The pgTAP files in supabase/tests, each as one test, without Docker."""

# ruff: noqa: S603 (the commands are ours)

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.postgres.install import ROOT, find_program
from tests.postgres.migrations import apply_migrations
from tests.postgres.server import PostgresServer

_FOLDER = ROOT / "supabase" / "tests"
_FILES = sorted(_FOLDER.rglob("*.sql"))
_DATABASE = "pgtap"


@pytest.fixture(scope="module")
def migrated_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Migrate a fresh database with pgTAP, as `supabase test db` prepares it."""
    url = postgres_server.create_database(_DATABASE)
    try:
        apply_migrations(url)
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            connection.execute("create extension if not exists pgtap with schema extensions")
        yield url
    finally:
        postgres_server.drop_database(_DATABASE)


def test_there_are_pgtap_files() -> None:
    """No file at all would pass silently."""
    assert _FILES


@pytest.mark.needs("pgtap", "pg_prove", "psql")
@pytest.mark.parametrize("file", _FILES, ids=lambda file: str(file.relative_to(_FOLDER)))
def test_pgtap(file: Path, migrated_url: str) -> None:
    """Every pgTAP file passes."""
    result = subprocess.run(
        [
            find_program("pg_prove") or "pg_prove",
            "--verbose",
            "--psql-bin",
            find_program("psql") or "psql",
            "--dbname",
            migrated_url,
            str(file),
        ],
        env=os.environ | {"PGOPTIONS": "-c search_path=public,extensions"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"\n{result.stdout}{result.stderr}"
