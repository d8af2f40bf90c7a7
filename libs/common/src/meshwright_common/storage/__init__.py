"""Stores: PostgreSQL, Redis or Valkey, objects, and the embedded engines behind `embedded:`."""
