"""What each built-in scenario says about the person: the facts of its rule, which become the notification's metadata.

``notification.facts`` has them typed. A notification of the app's own type has none, nor has one that the app claimed
or inserted with metadata of another form: there is ``notification.metadata``.
"""

from __future__ import annotations

from pydantic import AwareDatetime

from scenario_repo._fields import Row


class ScenarioFacts(Row):
    """The facts of one built-in scenario, as its subclass; ``repr`` and ``str`` show the class alone."""

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        return []


class InactivityFacts(ScenarioFacts):
    """Why a mentor is reminded of being inactive. Metadata: ``{"last_activity_at"}``."""

    last_activity_at: AwareDatetime
    """The last activity, in whichever organization."""


class MilestoneFacts(ScenarioFacts):
    """Which milestone was reached, and when. Metadata: ``{"activity_count", "reached_at"}``."""

    activity_count: int
    """The activities counted; no more than the highest milestone of the settings."""
    reached_at: AwareDatetime
    """The activity that reached the milestone."""


class CertificationExpiryFacts(ScenarioFacts):
    """Which certificates are about to expire. Metadata: ``{"certificate_ids", "expires_at", "new_subjects"}``."""

    certificate_ids: tuple[str, ...]
    """Their ids, those that expire first; an id that looks like personal data is its md5 in the form of a UUID."""
    expires_at: AwareDatetime
    """When the first of them expires."""
    new_subjects: tuple[str, ...] = ()
    """Those of ``notification.subjects`` that no earlier notification holds: a certificate's kind, or its id."""


class WelcomeBackFacts(ScenarioFacts):
    """After which gap a mentor came back. Metadata: ``{"returned_at", "last_activity_before"}``."""

    returned_at: AwareDatetime
    """The first activity after the gap."""
    last_activity_before: AwareDatetime
    """The last activity before it."""
