"""A throw-away PostgreSQL 15 that looks like Supabase's database."""
