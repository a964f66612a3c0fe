"""SpatialData in and out; the only part that imports spatialdata."""
