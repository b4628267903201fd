"""The web server of the console: uvicorn, which logs no request, and leaves the signals to the command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp


class QuietServer(uvicorn.Server):
    """Serves one app on a socket that is open already."""

    def __init__(self, app: ASGIApp, *, grace_seconds: int) -> None:
        """At the end, wait so long for the answers that are under way."""
        super().__init__(
            uvicorn.Config(
                app,
                # An address has the id of whom it is about.
                access_log=False,
                log_config=None,
                # No news: what is no HTTP, such as a port scan, and pages that Ctrl-C cuts off. The guard logs faults.
                log_level="critical",
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=grace_seconds,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    def end(self) -> None:
        """Take no further request, and let ``serve`` return."""
        self.should_exit = True
