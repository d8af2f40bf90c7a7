"""Fixtures every test of the repository may use: real engines (see the module's docstring)."""

pytest_plugins = ["meshwright_common.testing.engines"]
