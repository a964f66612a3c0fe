"""Analyze results: domains of similar pixels, their markers, and scores of gene sets."""
