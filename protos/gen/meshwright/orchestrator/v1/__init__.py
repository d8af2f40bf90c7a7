"""Generated from protos/meshwright/orchestrator/v1 by protos/generate.py: do not edit."""
