"""Generated from protos/meshwright/tool_exec/v1 by protos/generate.py: do not edit."""
