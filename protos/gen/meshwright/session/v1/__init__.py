"""Generated from protos/meshwright/session/v1 by protos/generate.py: do not edit."""
