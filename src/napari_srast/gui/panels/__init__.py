"""Panels of the dock widget, one per module."""
