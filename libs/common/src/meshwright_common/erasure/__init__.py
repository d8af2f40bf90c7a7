"""Erasing what a service keeps of a user or a tenant, and looking whether it is gone."""
