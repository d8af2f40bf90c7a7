"""Generated from protos/meshwright/errors by protos/generate.py: do not edit."""
