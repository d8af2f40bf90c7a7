"""Generated from protos/meshwright/events by protos/generate.py: do not edit."""
