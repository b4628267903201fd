"""The console in a browser: the command in a process of its own, and Debian's chromium without a window."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Final

from playwright.sync_api import Browser, sync_playwright

from scenario_repo import ScenarioNotificationRepository, connect
from scenario_repo.console.app import console
from scenario_repo.console.server import QuietServer
from scenario_repo.testing import PostgrestAnswers

ROOT: Final = Path(__file__).resolve().parents[1]
_END_SECONDS: Final = 10


@contextmanager
def running_console(url: str, secret_key: str) -> Iterator[str]:
    """Run ``scenario-repo console`` on a free port; the answer is the address that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scenario_repo.cli", "console", "--port", "0"],
        env={**os.environ, "SUPABASE_URL": url, "SUPABASE_SECRET_KEY": secret_key, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:"), "the console did not start"
            yield address
            process.send_signal(signal.SIGINT)
            assert process.wait(_END_SECONDS) == 0, "the console did not end by itself"
        finally:
            process.kill()
            process.wait()


@contextmanager
def served(answers: PostgrestAnswers) -> Iterator[str]:
    """Serve the console over given answers, in a thread, to whoever asks; the answer is its address."""
    servers: SimpleQueue[QuietServer] = SimpleQueue()

    async def serve(listening: socket.socket) -> None:
        async with connect(answers.url, answers.secret_key) as client:
            server = QuietServer(console(ScenarioNotificationRepository(client), token=None), grace_seconds=1)
            servers.put(server)
            await server.serve(sockets=[listening])

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=lambda: asyncio.run(serve(listening)))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            servers.get(timeout=_END_SECONDS).end()
            thread.join()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run chromium."""
    # As root there is no sandbox; the pages are our own.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        try:
            yield browser
        finally:
            browser.close()
