"""Geometry of spots and pixels: lattices, rasters, neighbors and coarsening."""
