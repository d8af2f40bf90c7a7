"""Generated from protos/meshwright/rag/v1 by protos/generate.py: do not edit."""
