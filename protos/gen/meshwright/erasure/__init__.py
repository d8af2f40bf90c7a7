"""Generated from protos/meshwright/erasure by protos/generate.py: do not edit."""
