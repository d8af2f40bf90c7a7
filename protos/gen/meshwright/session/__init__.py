"""Generated from protos/meshwright/session by protos/generate.py: do not edit."""
