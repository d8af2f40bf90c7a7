"""Generated from protos/meshwright/types/v1 by protos/generate.py: do not edit."""
