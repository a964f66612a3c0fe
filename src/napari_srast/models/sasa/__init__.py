"""Sasa."""
