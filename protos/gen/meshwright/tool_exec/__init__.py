"""Generated from protos/meshwright/tool_exec by protos/generate.py: do not edit."""
