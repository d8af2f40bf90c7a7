"""Generated from protos/meshwright/model_router/v1 by protos/generate.py: do not edit."""
