"""Implement the commands: one module per command."""
