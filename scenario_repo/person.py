"""One person's data: what there is of her, and how much of it was erased."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, JsonValue

from scenario_repo._fields import Row

DataRows = tuple[dict[str, JsonValue], ...]
"""Rows as they are in the database, with every column."""


class PersonalData(Row):
    """All that there is of one person; ``model_dump_json()`` is the answer to whoever asks for her own data.

    What a newer schema has beside it is kept. It is hers: its repr shows her id alone.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    user_id: UUID
    exported_at: AwareDatetime
    notifications: DataRows
    """What she was told, or is to be told, the oldest first; with the facts that each rests on."""
    handovers: DataRows
    """Of what is pending: when it may be sent, how often that was tried, and which devices it has reached (hashes)."""
    mutes: DataRows
    """What she does not want to be told."""
    turns: DataRows
    """When something was handed out to her last."""
    passes: DataRows
    """The ranges of passes under way that name her: as the last one evaluated, or the last one of the range."""
    sources: dict[str, DataRows]
    """What the app's own tables have of her, as the views of ``scenario_source`` show it; with her device tokens."""

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        """Show whose it is."""
        return [("user_id", self.user_id)]


class Erasure(Row):
    """How many rows of one person are gone."""

    notifications: int
    handovers: int
    mutes: int
    turns: int
    passes: int
    """The ranges of passes that no longer name her."""
