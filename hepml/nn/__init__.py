"""Layers that systems are built from."""
