"""Read slides, and write and read results, as SpatialData; no other folder imports spatialdata."""
