"""Generated from protos/meshwright/rag by protos/generate.py: do not edit."""
