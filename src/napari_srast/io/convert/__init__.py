"""Convert files of other programs to SpatialData stores."""
