"""Generated from protos/meshwright/erasure/v1 by protos/generate.py: do not edit."""
