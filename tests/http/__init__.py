"""Tests over HTTP: supabase-py against a running Supabase."""
