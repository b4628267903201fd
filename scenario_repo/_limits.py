"""Every limit on what the library accepts, in one place, and the default size of a page."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

MAX_CLAIMS: Final = 20_000
"""Claims in one call; one statement has to finish within the server's timeout."""
MAX_LEASED_CLAIMS: Final = 1_000
"""Claims with a lease in one call."""
MAX_LOOK_UPS: Final = 50_000
"""Distinct users in one look-up."""
MAX_LEASES: Final = 1_000
"""Notifications in one lease or settlement."""
MAX_LISTED: Final = 1_000
"""Notifications in one page of a history; PostgREST cuts longer answers."""
MAX_PAGE_SIZE: Final = 100_000
"""Mentors in one page of an evaluation, or users in one page of a purge."""
DEFAULT_PAGE_SIZE: Final = 10_000
"""Far below the server's statement timeout, and so large that the round trip hardly counts."""
MAX_SAMPLES: Final = 100
"""Samples in one check of a rule."""

MAX_RETRY_AFTER: Final = timedelta(days=30)
"""The longest time for which a sender may put a notification off."""
MAX_LEASE_SECONDS: Final = 86_400
"""The longest lease."""
MAX_DAYS: Final = 36_525
"""The longest cooldown or other duration, 100 years."""
MAX_DURATION: Final = timedelta(days=MAX_DAYS)

MAX_SUBJECTS: Final = 50
"""Subjects of one notification."""
MAX_SUBJECT_LENGTH: Final = 100
"""Characters of one subject; both are limits of the CHECK ``scenario_notifications_subjects_are_storable``."""
MAX_METADATA_BYTES: Final = 8192
"""The limit of the CHECK ``scenario_notifications_metadata_is_at_most_8_kib``."""
MAX_METADATA_DEPTH: Final = 32
"""Levels of nested objects and arrays; more than any sensible use needs, and cheap to walk."""
