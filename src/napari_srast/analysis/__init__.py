"""Analyze results: domains of similar pixels, their markers, scores of gene sets, and counts of cells."""
