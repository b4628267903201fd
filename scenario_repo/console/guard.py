"""What stands before every page: who may ask, for what, and the headers of every answer.

::

    request ──► its Host is one of ours? ──► GET or HEAD? ──► the token, or its cookie? ──► the pages
    answer  ◄── strict headers, on errors too; an unexpected error is a plain 500, and its text goes nowhere

A browser sends requests to loopback for whatever site asks for it. The Host stops a site that points its own name here
(DNS rebinding), and the cookie (``SameSite=Strict``) all others, as well as other users of this machine.
"""

from __future__ import annotations

import hmac
import re
from typing import Final
from urllib.parse import quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scenario_repo import _logs
from scenario_repo.senders import failure_of

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
"""The names by which a browser on this machine asks."""

_CONTENT: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _CONTENT,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Robots-Tag": "noindex, nofollow",
}
_READING: Final = ("GET", "HEAD")
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?", re.IGNORECASE)


class Guard:
    """The console's door, around the app."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str] = LOOPBACK, token: str | None, cookie: str) -> None:
        """Let in who asks for one of the hosts with the token; None: whoever can reach it, such as a proxy."""
        self._app, self._hosts, self._token, self._cookie = app, hosts, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            return
        has_begun = False

        async def send_sealed(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            await (self._refusal(scope) or self._app)(scope, receive, send_sealed)
        except Exception as error:  # noqa: BLE001 - its text may hold values, and the server would print it
            failure = failure_of(self._app, error)
            _logs.CONSOLE_FAILED.tell(kind=failure.kind, place=failure.place)
            if not has_begun:
                await PlainTextResponse("This page failed.", 500)(scope, receive, send_sealed)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        asked = HTTPConnection(scope)
        if _host_of(asked.headers) not in self._hosts:
            return PlainTextResponse("The console answers only to the names that it was started with.", 421)
        if scope["method"] not in _READING:
            return PlainTextResponse("The console only reads.", 405, {"Allow": ", ".join(_READING)})
        if self._token is None:
            return None
        # Also of who has the cookie: who opens the printed address again has the token in sight again.
        if not self._is_right(asked.query_params.get("token")):
            if self._is_right(asked.cookies.get(self._cookie)):
                return None
            return PlainTextResponse("Open the address that the console printed when it was started.", 403)
        answer = RedirectResponse(_without_token(asked), 303)
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
        return answer

    def _is_right(self, given: str | None) -> bool:
        return self._token is not None and hmac.compare_digest((given or "").encode(), self._token.encode())


def _without_token(asked: HTTPConnection) -> str:
    """Return the same page's address without the token, which would be seen there on a shared screen."""
    kept = [(name, value) for name, value in asked.query_params.multi_items() if name != "token"]
    # Two slashes at the head would be another host.
    path = "/" + quote(str(asked.scope["path"]).lstrip("/\\"))
    return f"{path}?{urlencode(kept)}" if kept else path


def _host_of(headers: Headers) -> str | None:
    """Return the name that was asked for, without its port; None for none, several or a strange one."""
    given = headers.getlist("host")
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    return found[1].lower() if found else None
