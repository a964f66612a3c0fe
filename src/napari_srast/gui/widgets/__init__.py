"""Widgets that several panels use, with their tooltips and keyboard shortcuts."""
