"""Executors that compute tiles: threads, a Dask cluster, and processes for SASA."""
