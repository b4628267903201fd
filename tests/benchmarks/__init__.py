"""Speed that anyone can check: `make bench`, or `python -m tests.benchmarks`."""

import sys
from pathlib import Path

# The embedded stack is a script beside its packages, not a part of the library.
sys.path.append(str(Path(__file__).resolve().parents[2] / "supabase" / "local"))
