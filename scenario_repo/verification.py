"""Whether an installation is whole: what a health check or a deployment asks."""

from __future__ import annotations

from scenario_repo._fields import Row


class InstallationFault(Row):
    """One thing that is not as it has to be."""

    what: str
    """The object, what was expected of it, and what is there; catalogue names alone, never a row's value."""
    mend: str | None = None
    """SQL that mends it, for the owner of the tables (``postgres``); None where SQL can't."""


class Verification(Row):
    """What there is of scenario_repo in a database, held against what its release installs."""

    schema_version: int
    """The version of the database's schema."""
    faults: tuple[InstallationFault, ...]
    """What is wrong; empty if all is well."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    @property
    def mending(self) -> str:
        """All the SQL that mends, as one script."""
        return "\n".join(dict.fromkeys(fault.mend for fault in self.faults if fault.mend is not None))
