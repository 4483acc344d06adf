"""The PostgreSQL schema, its migrations, and functions that take a Connection."""
