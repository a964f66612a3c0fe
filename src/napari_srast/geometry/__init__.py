"""Where things lie: the lattice of the spots, the raster of fine pixels, the graphs between spots."""
