"""Measure run time and memory, also of published packages."""
