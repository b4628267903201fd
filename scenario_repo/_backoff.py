"""How long to wait before the same request is sent again."""

from __future__ import annotations

import random
from typing import Final

FIRST_PAUSE_SECONDS: Final = 0.2
_MOST_DOUBLINGS: Final = 20


def pause_seconds(failures: int, longest: float, retry_after: float | None) -> float:
    """Return the pause after so many failures in a row, in seconds.

    Doubled by each failure up to ``longest``, between half and all of that, so that those who failed together don't
    come back together; and at least what the server asks for.
    """
    doubled = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), longest)
    return max(doubled * random.uniform(0.5, 1), retry_after or 0)  # noqa: S311 - no secret
