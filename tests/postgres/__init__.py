"""A throw-away PostgreSQL that looks like Supabase's database."""
