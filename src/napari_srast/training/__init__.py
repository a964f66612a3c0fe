"""Pseudo-low-resolution data, the trainer and its recipes."""
