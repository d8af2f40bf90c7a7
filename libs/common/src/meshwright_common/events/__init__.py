"""Facts about state changes: written with the change, read by idempotent consumers."""
