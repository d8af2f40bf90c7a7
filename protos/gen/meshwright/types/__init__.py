"""Generated from protos/meshwright/types by protos/generate.py: do not edit."""
