"""Analyze results: domains, markers, scores of gene sets, counts of cells, regions compared, spatial structure."""
