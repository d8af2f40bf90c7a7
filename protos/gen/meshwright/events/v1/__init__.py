"""Generated from protos/meshwright/events/v1 by protos/generate.py: do not edit."""
