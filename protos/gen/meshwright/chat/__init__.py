"""Generated from protos/meshwright/chat by protos/generate.py: do not edit."""
