"""Real servers for tests, each a class with `start stop kill pause resume` and an address."""
