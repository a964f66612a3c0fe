"""Helpers without domain knowledge: threads, devices, disk buffers, serialization and text."""
