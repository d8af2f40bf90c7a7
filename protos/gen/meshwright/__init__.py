"""Generated from protos/meshwright by protos/generate.py: do not edit."""
