"""Generated from protos/meshwright/errors/v1 by protos/generate.py: do not edit."""
