"""`make previous-release`: the library of the newest release, with its own tests, on the present schema.

    python tests/check_previous_release.py [--revision REV]

The release is the newest tag v…; before the first one there is nothing to run. Its package and its HTTP tests are taken
from git; the database is a PostgreSQL with the present migrations, behind the present embedded stack.
"""

# ruff: noqa: S603, S607, T201 (the commands are ours, and this is a script)

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "supabase" / "local")]

from scenario_repo.testing.embedded_stack import embedded_stack  # noqa: E402 - found by the line above
from tests.postgres.migrations import apply_migrations  # noqa: E402 - the same
from tests.postgres.server import postgres_server  # noqa: E402 - the same

# What a worker does: record, claim, evaluate, deliver. (The rest is about what the schema refuses, release by release.)
TESTS: Final = (
    "tests/http/test_record.py",
    "tests/http/test_claims_over_http.py",
    "tests/http/test_engine_over_http.py",
)


def newest_release() -> str | None:
    """Return the newest tag of a release, or None before the first."""
    tags = subprocess.run(
        ["git", "tag", "--list", "v[0-9]*", "--sort=-version:refname"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return next(iter(tags.stdout.split()), None)


def main() -> int:
    """Run the release's tests; return pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revision", help="this revision instead of the newest release")
    revision = parser.parse_args().revision or newest_release()
    if revision is None:
        print("no release yet: nothing to hold the schema to")
        return 0
    with tempfile.TemporaryDirectory() as folder, postgres_server() as server:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        database_url = server.create_database("present_schema")
        apply_migrations(database_url)
        with embedded_stack(database_url) as stack:
            environment = os.environ | {
                "SCENARIO_TEST_SUPABASE_URL": stack.url,
                "SCENARIO_TEST_DATABASE_URL": database_url,
                "SCENARIO_TEST_SECRET_KEY": stack.secret_key,
                "SCENARIO_TEST_PUBLISHABLE_KEY": stack.publishable_key,
                "SCENARIO_TEST_JWT_SECRET": stack.jwt_secret,
                "PYTHONPATH": folder,
            }
            print(f"scenario_repo of {revision} on the present schema", flush=True)
            command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *TESTS]
            return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
