"""Alembic migrations; they run from inside the package, no alembic.ini is needed."""
