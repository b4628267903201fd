"""docs/recipes: each block of code runs as the page says, against a Supabase, with the real Celery and Django."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from tests.http.supabase_platform import Platform
from tests.rows import ago, insert_activities, insert_devices, insert_mentors

ROOT: Final = Path(__file__).parents[2]
RECIPES: Final = ROOT / "docs" / "recipes"
QUIET: Final = "40 days"


def _blocks(recipe: str) -> dict[str, str]:
    """Return the blocks of a page, by the name of the file that each is saved as, or by their language."""
    text = (RECIPES / recipe).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return {name or language: code for language, name, code in found}


@pytest.fixture(scope="session")
def platform(platforms: Callable[[str], Platform]) -> Platform:
    """Take one Supabase: the recipes are about what calls it."""
    return platforms("external" if os.environ.get("SCENARIO_TEST_SUPABASE_URL") else "lite on PostgreSQL")


class Pushes:
    """A push provider on this machine, and what it was asked to send."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.url = ""
        self.seconds = 0.0
        """How long it takes to send."""

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Take messages until the block ends."""
        provider = self

        class Provider(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                provider.messages.append(json.loads(self.rfile.read(length)))
                time.sleep(provider.seconds)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.url = f"http://127.0.0.1:{server.server_port}/"
            try:
                yield
            finally:
                server.shutdown()


@pytest.fixture
def pushes() -> Iterator[Pushes]:
    """Run a push provider."""
    provider = Pushes()
    with provider.serving():
        yield provider


@pytest.fixture
def quiet_mentor(platform: Platform, user_id: UUID, organization_id: UUID) -> UUID:
    """Put a mentor there who is due for a reminder of inactivity, with a device."""
    with platform.owner() as owner:
        insert_mentors(owner, [user_id], organization_id=organization_id)
        insert_activities(owner, [user_id], organization_id=organization_id, activity_date=ago(QUIET))
        insert_devices(owner, [user_id])
    return user_id


def _statuses(platform: Platform, user_id: UUID) -> list[tuple[object, ...]]:
    return platform.execute(
        "select scenario_type, delivery_status from public.scenario_notifications where user_id = %s", user_id
    )


@pytest.fixture
def environment(platform: Platform, pushes: Pushes) -> dict[str, str]:
    """Set what the recipes say is to be set."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SUPABASE_URL": platform.url,
        "SUPABASE_SECRET_KEY": platform.secret_key,
        "SUPABASE_PUBLISHABLE_KEY": platform.publishable_key,
        "PUSH_URL": pushes.url,
    }


def _run(
    folder: Path, environment: dict[str, str], *command: str, timeout: int = 120
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the command is a recipe's
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def _pushed(pushes: Pushes, user_id: UUID, platform: Platform) -> list[str]:
    """Say what was sent to the mentor's device."""
    rows = platform.execute("select token from public.device_tokens where user_id = %s", user_id)
    tokens = {token for (token,) in rows}
    return [message["about"] for message in pushes.messages if tokens & set(message["to"])]


def _told(pushes: Pushes, user_id: UUID, platform: Platform) -> None:
    """Fail unless the mentor was reminded once, on her device, and the database knows."""
    assert _pushed(pushes, user_id, platform) == ["inactivity"]
    assert _statuses(platform, user_id) == [("inactivity", "sent")]


# Celery ------------------------------------------------------------------

SETTINGS: Final = """
from tasks import app
import welcome

app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"},
    result_backend="file://results",
)
"""
WORKER: Final = (
    "from settings import app; app.worker_main(['worker', '--pool=prefork', '--concurrency=1', '-l', 'INFO'])"
)
CALLS: Final = """
import json, sys
from settings import app

def call(name, *args):
    return app.send_task(name, args).get(timeout=90)
"""


@pytest.fixture
def celery(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """Save the page's files, run a worker of the prefork pool, and return how a task is called."""
    files = {**_blocks("celery.md"), "settings.py": SETTINGS}
    assert set(files) == {"tasks.py", "welcome.py", "settings.py"}
    for name, code in files.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    for folder in ("queue", "control", "results"):
        (tmp_path / folder).mkdir()
    log = tmp_path / "worker.log"
    with log.open("w") as output:
        worker = subprocess.Popen(  # noqa: S603
            (sys.executable, "-c", WORKER), cwd=tmp_path, env=environment, stdout=output, stderr=output
        )

    def call(script: str, *arguments: str) -> Any:  # noqa: ANN401 - what the script prints
        run = _run(tmp_path, environment, sys.executable, "-c", CALLS + script, *arguments)
        assert run.returncode == 0, f"{run.stderr}\n{log.read_text()}"
        return json.loads(run.stdout)

    yield call
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    assert "Unrecoverable" not in log.read_text()


def test_celery(
    quiet_mentor: UUID, organization_id: UUID, platform: Platform, pushes: Pushes, celery: Callable[..., Any]
) -> None:
    """A worker evaluates and delivers, on the tasks of the beat schedule, and keeps a client for each process."""
    script = """
assert {one["task"] for one in app.conf.beat_schedule.values()} <= set(app.tasks), "beat asks for what is no task"
told = [call("tasks.evaluate"), call("tasks.deliver")]
print(json.dumps([*told, [call("welcome.claim", *sys.argv[1:]) for _ in range(2)]]))
"""
    evaluated, delivered, claimed = celery(script, str(quiet_mentor), str(organization_id))

    assert (evaluated["inactivity"] >= 1, delivered["sent"] >= 1) == (True, True)
    assert claimed == [True, False]
    assert _pushed(pushes, quiet_mentor, platform) == ["inactivity"]
    assert sorted(_statuses(platform, quiet_mentor)) == [("inactivity", "sent"), ("welcome_back", "pending")]


def test_celerys_soft_time_limit(
    quiet_mentor: UUID, platform: Platform, pushes: Pushes, celery: Callable[..., Any]
) -> None:
    """A soft time limit ends a delivery as Ctrl-C does: what is being sent is settled, and the process goes on."""
    pushes.seconds = 3
    script = """
call("tasks.evaluate")
try:
    app.send_task("tasks.deliver", soft_time_limit=1).get(timeout=90)
except Exception as error:
    print(json.dumps([type(error).__name__, call("tasks.deliver")]))
"""
    error, delivered_later = celery(script)

    assert error == "SoftTimeLimitExceeded"
    assert delivered_later == {}
    assert _pushed(pushes, quiet_mentor, platform) == ["inactivity"]
    assert _statuses(platform, quiet_mentor) == [("inactivity", "sent")]


# cron --------------------------------------------------------------------


@pytest.fixture
def cron(tmp_path: Path, environment: dict[str, str]) -> Callable[[], subprocess.CompletedProcess[str]]:
    """Save the page's script, and return how cron runs its line: by the shell, with hardly any environment."""
    blocks = _blocks("cron.md")
    assert set(blocks) == {"notify.py", "crontab"}
    (tmp_path / "notify.py").write_text(blocks["notify.py"], encoding="utf-8")
    settings = "".join(f"export {name}='{value}'\n" for name, value in environment.items())
    (tmp_path / "environment").write_text(settings, encoding="utf-8")
    (command,) = re.findall(r"^\*/5 \* \* \* \* (.*)$", blocks["crontab"], re.MULTILINE)
    line = command.replace("/srv/app", str(tmp_path))
    return lambda: _run(tmp_path, {"PATH": os.defpath}, "/bin/sh", "-c", line)


def test_cron(
    quiet_mentor: UUID,
    platform: Platform,
    pushes: Pushes,
    cron: Callable[[], subprocess.CompletedProcess[str]],
) -> None:
    """The crontab's line runs the script, which tells whoever is due; the next run tells nobody again."""
    first, second = cron(), cron()

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert re.fullmatch(r"claimed [1-9]\d*, delivered [1-9]\d*\n", first.stdout)
    assert second.stdout == "claimed 0, delivered 0\n"
    _told(pushes, quiet_mentor, platform)


def test_cron_is_told_of_a_wrong_setting(cron: Callable[[], subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    """Somebody has to look: the exit code is 1, and one line says at what."""
    with (tmp_path / "environment").open("a", encoding="utf-8") as file:
        file.write("export SUPABASE_SECRET_KEY=sb_publishable_of-the-app\n")
    run = cron()

    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1
    assert "publishable" in run.stderr


OUTAGE: Final = """
import runpy
from scenario_repo import UnavailableException, blocking

def refuse():
    raise UnavailableException("of a test", retryable=True)

blocking.connect = refuse
runpy.run_path("notify.py", run_name="__main__")
"""


def test_cron_is_told_of_what_may_pass(environment: dict[str, str], tmp_path: Path) -> None:
    """After an outage that outlasts all tries the exit code is 75: the next run will do."""
    (tmp_path / "notify.py").write_text(_blocks("cron.md")["notify.py"], encoding="utf-8")

    assert _run(tmp_path, environment, sys.executable, "-c", OUTAGE).returncode == os.EX_TEMPFAIL


# Django ------------------------------------------------------------------

DJANGO: Final = """
SECRET_KEY = "of a test"
INSTALLED_APPS = ["mentoring"]
ROOT_URLCONF = "mentoring.urls"
ALLOWED_HOSTS = ["testserver"]
"""
URLS: Final = """
from django.urls import path
from mentoring.views import notifications

urlpatterns = [path("<uuid:user_id>/", notifications)]
"""
VISITS: Final = """
import json, sys, threading
import django
django.setup()
from django.test import Client

user, *tokens = sys.argv[1:]
answers = [Client().get(f"/{user}/", headers={"authorization": f"Bearer {token}"}) for token in [*tokens, "none"]]
threads = [thread.name for thread in threading.enumerate()].count("scenario_repo")
print(json.dumps([[answer.status_code, answer.json()] for answer in answers] + [threads]))
"""


@pytest.fixture
def project(tmp_path: Path, environment: dict[str, str]) -> Path:
    """Make a Django project with the page's files in its app."""
    blocks = _blocks("django.md")
    assert set(blocks) == {"management/commands/notify.py", "views.py"}
    app = tmp_path / "mentoring"
    (app / "management" / "commands").mkdir(parents=True)
    for folder in (app, app / "management", app / "management" / "commands"):
        (folder / "__init__.py").touch()
    for name, code in {**blocks, "urls.py": URLS}.items():
        (app / name).write_text(code, encoding="utf-8")
    (tmp_path / "settings.py").write_text(DJANGO, encoding="utf-8")
    environment["DJANGO_SETTINGS_MODULE"] = "settings"
    environment["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    return tmp_path


def test_django(
    quiet_mentor: UUID, platform: Platform, pushes: Pushes, environment: dict[str, str], project: Path
) -> None:
    """The management command runs a round; the view shows a person her own notifications and nobody else's."""
    command = _run(project, environment, sys.executable, "-m", "django", "notify", "--seconds", "30")
    assert command.returncode == 0, command.stderr
    assert command.stdout.startswith("claimed ")
    _told(pushes, quiet_mentor, platform)

    (stranger,) = platform.new_users(1)
    tokens = [platform.access_token(quiet_mentor), platform.access_token(stranger)]
    visits = _run(project, environment, sys.executable, "-c", VISITS, str(quiet_mentor), *tokens)
    platform.delete_users([stranger])
    assert visits.returncode == 0, visits.stderr
    hers, strangers, nobodys, threads = json.loads(visits.stdout)
    assert [row["scenario_type"] for row in hers[1]["notifications"]] == ["inactivity"]
    assert strangers == [200, {"notifications": []}]
    assert nobodys == [401, {"error": "sign in again"}]
    assert threads == 1


def test_django_says_what_went_wrong_in_one_line(environment: dict[str, str], project: Path) -> None:
    """A wrong setting ends the command with one line."""
    del environment["SUPABASE_SECRET_KEY"]
    command = _run(project, environment, sys.executable, "-m", "django", "notify")

    assert command.returncode == 1
    assert len(command.stderr.splitlines()) == 1
    assert command.stderr.startswith("CommandError: ")


def test_every_recipe_is_run() -> None:
    """No page of docs/recipes is without a test here."""
    assert {page.name for page in RECIPES.glob("*.md")} == {"celery.md", "cron.md", "django.md"}
