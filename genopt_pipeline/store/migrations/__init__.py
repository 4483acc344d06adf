"""Migrations of the schema, run by alembic through genopt_pipeline.store.migrate."""
