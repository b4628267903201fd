"""How the demo ends: with the console over its data, in a process of its own, and with its address."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from demo_tables import console, meaning

from scenario_repo.testing.embedded_stack import EmbeddedStack, EmbeddedStackError

_CONSOLE = """
import os, signal, sys, threading
def end_with_the_demo():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end_with_the_demo, daemon=True).start()
from scenario_repo.cli import main
sys.exit(main(["console", "--port", "0"]))
"""
"""``scenario-repo console``, until its standard input is over: also where the demo's terminal is closed."""
_END_SECONDS = 5


def show_console(stack: EmbeddedStack, organization: UUID) -> None:
    """Open the console, read two of its pages, and print where they are; at a terminal it stays until Enter."""
    console.print("\n[bold]The same in a browser: the console[/bold]")
    with _opened(stack) as address:
        root, _, token = address.partition("/?")
        page = f"{root}/organization?id={organization}"
        with httpx.Client(follow_redirects=True) as browser:
            overview = _read(browser, address)
            charts = _read(browser, page).count("<svg")
        scenarios = len(set(re.findall(r"/pending\?scenario=(\w+)", overview)))
        meaning(f"read just now: the overview of {scenarios} scenarios, the organization's page with {charts} charts")
        meaning("read-only, on this machine alone; the token lets in whoever has the address")
        print(f"\noverview:     {address}\norganization: {page}&{token}", flush=True)
        if _is_somebody_there():
            input("\nOpen one in a browser; Enter or Ctrl-C ends the demo. ")


@contextmanager
def _opened(stack: EmbeddedStack) -> Iterator[str]:
    process = subprocess.Popen(  # noqa: S603 - a fixed command
        (sys.executable, "-c", _CONSOLE),
        env={**os.environ, "SUPABASE_URL": stack.url, "SUPABASE_SECRET_KEY": stack.secret_key},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C is for the demo, which ends it.
        process_group=0 if os.name == "posix" else None,
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - Popen was given pipes
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise EmbeddedStackError("the console did not start")
        yield address
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()


def _read(browser: httpx.Client, address: str) -> str:
    try:
        answer = browser.get(address)
    except httpx.HTTPError as error:
        raise EmbeddedStackError(f"the console did not answer: {type(error).__name__}") from None
    if answer.status_code != httpx.codes.OK:
        raise EmbeddedStackError(f"the console answered {answer.status_code}")
    return answer.text


def _is_somebody_there() -> bool:
    """Say whether somebody at a terminal can press Enter; the gate sets CI, also when a person runs it."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not os.environ.get("CI")
