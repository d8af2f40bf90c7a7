"""Protobuf to domain and back, with the checks of shape. Pure."""
