"""Measurements of the platform: simulated provider, load generator, figures."""
