"""Protobuf to domain and back."""
