"""Generated from protos/meshwright/orchestrator by protos/generate.py: do not edit."""
