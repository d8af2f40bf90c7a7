"""Generated from protos/meshwright/chat/v1 by protos/generate.py: do not edit."""
