"""Generated from protos/meshwright/model_router by protos/generate.py: do not edit."""
