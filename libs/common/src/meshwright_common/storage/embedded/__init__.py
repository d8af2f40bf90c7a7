"""PostgreSQL and Valkey from their wheels: start, wait, stop. Who owns the data is the caller's."""
