"""`make stack`: the embedded Supabase with sample data until Ctrl-C, and what to paste into another terminal.

python supabase/local/serve.py [--port 54321] [--database-url postgresql://… [--migrate]] [--seed]
"""

from __future__ import annotations

import interrupts

if __name__ == "__main__":
    interrupts.end_in_one_line()

import argparse
import hashlib
import shutil
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from scenario_repo.testing import LocalSupabase
from scenario_repo.testing.embedded_stack import EmbeddedStack, EmbeddedStackError, embedded_stack, install

ROOT = Path(__file__).resolve().parents[2]
ORGANIZATION = UUID("5ca1ab1e-0000-4000-8000-000000000001")
"""The organization of supabase/seed.sql."""
QUIET, BACK, BUSY = 14, 17, 1
"""Of its 500 mentors: one who went quiet 54 days ago, one who came back yesterday, and one who is active."""


def sample_mentor(number: int) -> UUID:
    """Return the id of a mentor of supabase/seed.sql, by number."""
    return UUID(hashlib.md5(f"scenario_repo sample mentor {number}".encode(), usedforsecurity=False).hexdigest())


def greeting(stack: EmbeddedStack, *, seeded: bool) -> str:
    """Write what is there, and what can be done next; all of it can be pasted as it is."""
    variables = f"""\
The local Supabase runs on {stack.url}. Paste into another terminal, in this folder:

# where it is
export SUPABASE_URL='{stack.url}'
export SUPABASE_SECRET_KEY='{stack.secret_key}'
export SUPABASE_PUBLISHABLE_KEY='{stack.publishable_key}'
export DATABASE_URL='{stack.database_url}'
"""
    return f"{variables}{_samples(stack) if seeded else ''}\nCtrl-C ends the stack; nothing is kept.\n"


def _samples(stack: EmbeddedStack) -> str:
    local = LocalSupabase(stack.url, stack.secret_key, stack.publishable_key, stack.jwt_secret, stack.database_url)
    token = local.access_token(sample_mentor(QUIET), timedelta(hours=12))
    command = str(Path(sys.executable).with_name("scenario-repo")).removeprefix(f"{ROOT}/")
    rest = '"$SUPABASE_URL/rest/v1/scenario_notifications?select=user_id,scenario_type,delivery_status&limit=3"'
    count = "select scenario_type, delivery_status, count(*) from scenario_notifications group by 1, 2"
    psql = "psql" if shutil.which("psql") else "# (psql is not installed here) psql"
    return f"""
# who is due: counted, then claimed
{command} evaluate --dry-run
{command} evaluate
# why one mentor is due, or not
{command} explain {sample_mentor(QUIET)}
# what was claimed: over HTTP as a worker, and in SQL
curl {rest} -H "apikey: $SUPABASE_SECRET_KEY"
{psql} "$DATABASE_URL" -c '{count}'
# the same in a browser, until Ctrl-C: read-only pages; look up the organization below
{command} console
# the same as a signed-in mentor: row level security shows her own alone
export ACCESS_TOKEN='{token}'
curl {rest} -H "apikey: $SUPABASE_PUBLISHABLE_KEY" -H "Authorization: Bearer $ACCESS_TOKEN"

# to try with: an organization of 500 mentors,
#   {ORGANIZATION}
# of whom one went quiet 54 days ago, one came back yesterday, and one is active
#   {sample_mentor(QUIET)}
#   {sample_mentor(BACK)}
#   {sample_mentor(BUSY)}

Next: send what was claimed, with the first example of README.md.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stack in the foreground until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="serve.py", description="The local Supabase without Docker, until Ctrl-C.")
    parser.add_argument("--database-url", help="a running PostgreSQL 15 (default: PGlite in memory)")
    parser.add_argument("--migrate", action=argparse.BooleanOptionalAction, help="apply the migrations")
    parser.add_argument("--seed", action="store_true", help="apply seed.sql: the sample data")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    options = parser.parse_args(arguments)
    try:
        install(bring_node=True)
        print("starting the local Supabase, a few seconds …", flush=True)
        with embedded_stack(
            options.database_url, migrate=options.migrate, seed=options.seed, port=options.port
        ) as stack:
            print(greeting(stack, seeded=options.seed), flush=True)
            threading.Event().wait()
    except EmbeddedStackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
