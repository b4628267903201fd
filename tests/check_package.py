"""`make package`: what would be uploaded is complete, reads on an index, and can run its own tests.

Builds the sdist, and the wheel from it, in environments of their own; checks both with twine; unpacks the sdist into an
empty folder, compares it with git's list of files, and runs its unit tests there.
"""

# ruff: noqa: S603, S607, T201 (the commands are ours, and this is a script)

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from email import message_from_bytes
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
TOOLS: Final = ("build==1.6.1", "twine==7.0.0")
CACHE: Final = ROOT / ".cache" / "package"
ONLY_IN_THE_SDIST: Final = {"PKG-INFO"}
MENTIONED_ON_THE_INDEX: Final = ("](docs/", "](tests/", "](SECURITY", "](CONTRIBUTING", "](BENCHMARKS", "](supabase")


class PackageError(AssertionError):
    """The package is not fit to be uploaded."""


def tools() -> str:
    """Make the environment of the tools, or find it; return its interpreter."""
    interpreter, stamp = CACHE / "bin" / "python", CACHE / ".installed"
    wanted = hashlib.sha256("\n".join([sys.version, *TOOLS]).encode()).hexdigest()
    if not (stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(CACHE)], check=True)
        pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *TOOLS], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return str(interpreter)


def check_files(unpacked: Path) -> int:
    """Compare with git: every file is there, and no other; return how many."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    tracked = {name for name in listed.split("\0") if name}
    there = {str(file.relative_to(unpacked)) for file in unpacked.rglob("*") if file.is_file()}
    for what, names in (("missing", tracked - there), ("too much", there - tracked - ONLY_IN_THE_SDIST)):
        if names:
            raise PackageError(f"{what} in the sdist: {', '.join(sorted(names)[:10])}")
    return len(there)


def check_readme(unpacked: Path) -> None:
    """Find a link that leads nowhere on an index."""
    metadata = message_from_bytes((unpacked / "PKG-INFO").read_bytes())
    text = str(metadata.get_payload())
    left = [link for link in MENTIONED_ON_THE_INDEX if link in text]
    if left or "# scenario_repo" not in text:
        raise PackageError(f"the README for the index: {left or 'is missing'}")


def main() -> None:
    """Fail unless the package is fit to be uploaded."""
    python = tools()
    with tempfile.TemporaryDirectory() as folder:
        dist = Path(folder) / "dist"
        subprocess.run([python, "-m", "build", "--outdir", str(dist), str(ROOT)], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([python, "-m", "twine", "check", "--strict", *map(str, dist.iterdir())], check=True)
        (sdist,) = dist.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        (unpacked,) = Path(folder).glob("scenario_repo-*/")
        files = check_files(unpacked)
        check_readme(unpacked)
        tests = ["-m", "pytest", "tests/unit", "--numprocesses", "2", "--dist", "loadfile", "--quiet"]
        # Not the checkout's package: an editable install would be found first.
        environment = {**os.environ, "PYTHONPATH": str(unpacked)}
        subprocess.run([sys.executable, *tests], check=True, cwd=unpacked, env=environment)
        print(f"{sdist.name}: {files} files, and its unit tests pass")


if __name__ == "__main__":
    main()
