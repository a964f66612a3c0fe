"""Physically constrained flow matching: path, network and sampler."""
