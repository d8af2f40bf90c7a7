"""Backups: one moment of PostgreSQL, the objects that it refers to, and how to trust them."""
