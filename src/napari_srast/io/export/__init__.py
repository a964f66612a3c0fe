"""Write results in formats of other programs: OME-TIFF for image viewers, GeoJSON for QuPath."""
