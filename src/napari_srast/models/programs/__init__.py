"""Gene programs: approximate the maps of a large panel by the maps of a few non-negative factors.

``factorization`` fits a Poisson factorization of the counts into spot activities and gene loadings. ``program_fields``
turns it into count fields, one per program plus the total counts, which the flow splits over the pixels, and mixes
their maps into the map of any gene.
"""
