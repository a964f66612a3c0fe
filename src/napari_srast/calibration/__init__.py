"""Decide on the slide itself how far to use each expert.

The modules in the order of their use: ``experts`` predict pixels; ``holdout`` coarsens the slide, so that its spots are
pixels with measured counts; ``predictions`` are the experts' predictions for them; ``likelihood`` scores ``weights`` of
the pool, and ``prior`` describes them over studies; ``fitting`` combines both; ``skill`` scores genes; ``dispersion``
is how true counts vary around the pool, and ``count_sampling`` samples them.
"""
