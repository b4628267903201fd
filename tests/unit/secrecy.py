"""The full text of an exception as a log could show it, and a marker that must not be in it."""

from __future__ import annotations

import traceback
from typing import Final

MARKER: Final = "SECRET-ROW-VALUE"


def told_by(error: BaseException) -> str:
    """Return everything that a log could show of an exception and of its chain."""
    chain: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and link not in chain:
            chain.append(link)
            waiting += [link.__cause__, link.__context__]
    texts = [f"{link} {link!r} {link.args} {vars(link)}" for link in chain]
    return "\n".join([*texts, *traceback.format_exception(error)])
