"""Run a throw-away PostgreSQL that looks like Supabase's database.

```python
with postgres_server({"work_mem": "64MB"}) as server:
    url = server.create_database("scratch")
```

The server listens on 127.0.0.1 and on a socket in its own temporary folder,
trusts everybody, and runs under another user when the tests run as root. It is
stopped and its folder removed however the process ends: a small keeper process
waits on a pipe whose other end only this process holds.
"""

# ruff: noqa: S603 (the commands are ours)

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import psycopg
from psycopg import sql

from tests.postgres.install import require_bindir

TEMPLATE = "supabase_template"
SUPERUSER = "supabase_admin"

_PLATFORM = Path(__file__).with_name("platform.sql")
_KEEPER = Path(__file__).with_name("keeper.py")
# Ports of the local Supabase stack: the CLI takes a URL with one of them for its own.
_SUPABASE_PORTS = range(54320, 54330)
_PATIENCE_SECONDS = 60.0
_LONGEST_PARENT = 60
_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_TEST_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "shared_buffers": "256MB",
        "max_connections": "200",
        "autovacuum": "on",
        "timezone": "UTC",
    }
)


class PostgresServerError(RuntimeError):
    """The test server doesn't do what it should; the message has its log."""


class PostgresServer:
    """A running server: its addresses, its databases, and ways to disturb it."""

    def __init__(self, folder: Path, bindir: Path, account: _Account) -> None:
        self._folder = folder
        self._bindir = bindir
        self._settings = dict(_TEST_SETTINGS)
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None
        self.host = "127.0.0.1"
        self.port = 0

    def __repr__(self) -> str:
        return f"PostgresServer(port={self.port}, folder={str(self._folder)!r})"

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        if self._process is None:
            raise PostgresServerError("the server is stopped")
        return self._process.pid

    @property
    def socket_folder(self) -> Path:
        """The folder of the unix socket."""
        return self._folder

    @property
    def log(self) -> str:
        """What the server logged so far."""
        with suppress(FileNotFoundError):
            return (self._folder / "log").read_text(errors="replace")
        return ""

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Return the URL of a database; `postgres` is no superuser, `supabase_admin` is."""
        return f"postgresql://{user}@{self.host}:{self.port}/{database}"

    def create_database(self, name: str, template: str = TEMPLATE, owner: str = "postgres") -> str:
        """Clone a database, by default one that looks like a new project's; return its URL."""
        statement = sql.SQL("create database {} template {} owner {}")
        self._administrate(statement.format(*map(sql.Identifier, (name, template, owner))))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, disconnecting whoever uses it."""
        statement = sql.SQL("drop database if exists {} with (force)")
        self._administrate(statement.format(sql.Identifier(name)))

    def start(self) -> None:
        """Start the server, on the port that it had before."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        arguments = [f"-c{name}={value}" for name, value in self._settings.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._bindir / "postgres"),
                    "-D",
                    str(self._folder / "data"),
                    "-h",
                    self.host,
                    "-p",
                    str(self.port),
                    "-k",
                    str(self.socket_folder),
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=environment,
                # Ctrl-C reaches the tests, not the server that they still need.
                start_new_session=True,
                user=self._account.user,
                group=self._account.group,
                extra_groups=self._account.extra_groups,
            )
        self._wait_until_ready()

    def stop(self, *, immediately: bool = False) -> None:
        """Stop the server: fast, or as if it had crashed."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGQUIT if immediately else signal.SIGINT)
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, settings: Mapping[str, str] = _NO_SETTINGS, *, immediately: bool = False) -> None:
        """Stop the server and start it again, with its data, its port and more settings."""
        self.stop(immediately=immediately)
        self._settings.update(settings)
        self.start()

    def _administrate(self, statement: sql.Composed) -> None:
        with closing(psycopg.connect(self.url(user=SUPERUSER), autocommit=True)) as connection:
            connection.execute(statement)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._process is not None and self._process.poll() is None:
            try:
                psycopg.connect(self.url("template1", SUPERUSER), connect_timeout=5).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    self.stop(immediately=True)
                    break
                time.sleep(0.02)
            else:
                return
        raise PostgresServerError(f"PostgreSQL did not start:\n{self.log}")

    def start_on_free_port(self, attempts: int = 5) -> None:
        """Start the server for the first time, on a port that nobody uses."""
        for attempt in range(1, attempts + 1):
            self.port = _free_port()
            try:
                self.start()
            except PostgresServerError:
                # Somebody may have taken the port between the look and the start.
                if attempt == attempts or "could not bind" not in self.log:
                    raise
            else:
                return

    def initialise(self) -> None:
        """Create the cluster's files, with Supabase's superuser."""
        initdb = subprocess.run(
            [
                str(self._bindir / "initdb"),
                f"--pgdata={self._folder / 'data'}",
                f"--username={SUPERUSER}",
                "--auth=trust",
                "--encoding=UTF8",
                f"--locale={'C' if sys.platform == 'darwin' else 'C.UTF-8'}",
                "--no-sync",
                "--no-instructions",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            user=self._account.user,
            group=self._account.group,
            extra_groups=self._account.extra_groups,
        )
        if initdb.returncode != 0:
            raise PostgresServerError(f"initdb failed:\n{initdb.stdout}{initdb.stderr}")

    def apply_platform(self) -> None:
        """Make database `postgres` Supabase's, and keep a copy to clone from."""
        with closing(psycopg.connect(self.url(user=SUPERUSER))) as connection, connection:
            connection.execute(_PLATFORM.read_bytes())
        with closing(psycopg.connect(self.url("template1", SUPERUSER), autocommit=True)) as connection:
            connection.execute(
                f"create database {TEMPLATE} template postgres owner postgres is_template true allow_connections false"
            )


@contextmanager
def postgres_server(
    settings: Mapping[str, str] = _NO_SETTINGS, *, bindir: Path | None = None
) -> Iterator[PostgresServer]:
    """Start PostgreSQL, of the version that install.py finds, in a temporary folder; stop and remove it at the end.

    `settings` go on top of the fast test settings, such as
    `{"shared_preload_libraries": "pg_cron", "cron.database_name": "postgres"}`.
    """
    account = _server_account()
    folder = _new_folder(account)
    keeper = subprocess.Popen(
        [sys.executable, "-ISE", str(_KEEPER), str(folder)],
        stdin=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    try:
        server = PostgresServer(folder, _reachable(bindir or require_bindir(), folder, account), account)
        try:
            server.initialise()
            server.start_on_free_port()
            server.apply_platform()
            # Not before: pg_cron's launcher would stay connected to the database that is cloned.
            if settings:
                server.restart(settings)
            yield server
        finally:
            server.stop()
    finally:
        # The keeper takes the end of its input as the sign to remove the folder.
        keeper.communicate()


class _Account(NamedTuple):
    """Whom the server runs as, in subprocess's words; None is whoever we are."""

    user: int | None = None
    group: int | None = None
    extra_groups: tuple[int, ...] | None = None

    def can_enter(self, path: Path) -> bool:
        """Whether a program of this account reaches what is in the folder."""
        return self.user is None or all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def _server_account() -> _Account:
    """Another user than root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return _Account()
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        entry = pwd.getpwnam("nobody")
    return _Account(entry.pw_uid, entry.pw_gid, ())


def _new_folder(account: _Account) -> Path:
    """Make a temporary folder that the server's user can reach and owns."""
    # The path of a unix socket may have a hundred characters: keep it short.
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    for parent in candidates:
        if len(str(parent)) <= _LONGEST_PARENT and account.can_enter(parent):
            folder = Path(tempfile.mkdtemp(prefix="scenario-pg-", dir=parent))
            if account.user is not None and account.group is not None:
                os.chown(folder, account.user, account.group)
            return folder
    raise PostgresServerError(f"no temporary folder can be used, tried {', '.join(map(str, candidates))}")


def _reachable(bindir: Path, folder: Path, account: _Account) -> Path:
    """Return the programs' folder, or that of a copy when the server's user can't reach them."""
    if account.can_enter(bindir):
        return bindir
    copy = folder / "postgresql"
    shutil.copytree(bindir.parent, copy, symlinks=True)
    return copy / bindir.name


def _free_port() -> int:
    while True:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _SUPABASE_PORTS:
            return port
