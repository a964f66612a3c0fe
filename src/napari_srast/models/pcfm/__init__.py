"""Physically constrained flow matching (PCFM): predict how the counts of a spot split over its pixels.

``field_statistics`` summarizes each field (a gene or a program) over the whole slide. ``inputs`` turns counts,
embedding and interpolations into the tokens and conditions of spot-field pairs. ``path`` defines the straight path from
Dirichlet noise to the ratios, ``network`` is the diffusion transformer that predicts the end point of the path,
``loss`` holds the terms that it is trained with, and ``sampler`` integrates the flow to mean ratios or samples. Ratios
of a spot stay on the simplex at every step, so the counts of the spot are conserved.
"""
