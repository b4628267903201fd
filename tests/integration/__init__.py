"""Tests on a real PostgreSQL, without HTTP."""
