"""The files that are written into a Supabase project, beyond its migrations."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import migration
import pytest

from scenario_repo import ScenarioRepositoryException, _project
from scenario_repo._releases import schema_text, snippets


def test_the_schema_is_written_once_and_again_with_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of an earlier release is replaced, also with other line ends."""
    file, written = _project.copy_schema(tmp_path)
    assert (file.name, written) == ("scenario_repo.sql", True)
    assert file.read_text().endswith(schema_text())
    assert _project.copy_schema(tmp_path) == (file, False)
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert _project.copy_schema(tmp_path) == (file, False)
    monkeypatch.setattr(_project, "schema_text", lambda: "select 2;\n")
    assert _project.copy_schema(tmp_path) == (file, True)
    assert file.read_text().endswith("\n\nselect 2;\n")


@pytest.mark.parametrize("text", ["select 1;\n", "", None])
def test_a_file_that_was_edited_stays(tmp_path: Path, text: str | None) -> None:
    """Somebody's work is not written over."""
    file = tmp_path / "scenario_repo.sql"
    if text is None:
        _project.copy_schema(tmp_path)
        text = file.read_text() + "-- mine\n"
    file.write_text(text)
    with pytest.raises(ScenarioRepositoryException, match=r"nothing written: .*scenario_repo\.sql was edited"):
        _project.copy_schema(tmp_path)
    assert file.read_text() == text


def test_the_schema_has_its_files_in_the_order_of_the_config() -> None:
    """In the checkout config.toml has the order, and the package does without it."""
    assert schema_text() == "\n".join(file.read_text() for file in migration.schema_files())


def test_the_snippets_travel_with_the_package() -> None:
    """By name, without the ending."""
    assert set(snippets()) == {"schedule_with_pg_cron", "uninstall", "unschedule_pg_cron"}
    assert "cron.schedule" in snippets()["schedule_with_pg_cron"]


def test_a_scenario_is_written_into_a_project_alone(tmp_path: Path) -> None:
    """No folder supabase/ appears wherever the command was run."""
    with pytest.raises(ScenarioRepositoryException, match=r"nothing written: .*supabase is no folder"):
        _project.write_scenario("birthday", tmp_path / "supabase", datetime(2026, 11, 26, tzinfo=UTC))
    assert list(tmp_path.iterdir()) == []
