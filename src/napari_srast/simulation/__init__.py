"""Simulate tissues: the built-in slide (``colon``), and procedural training data (``tissues``)."""
