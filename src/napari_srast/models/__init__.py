"""Neural networks and factor models of the SRast method, without calibration or input and output.

``sasa`` fits a graph VAE to one slide and returns an embedding of its spots. ``pcfm`` predicts, from that embedding and
the counts, how the counts of a spot split over its pixels. ``programs`` factorizes the counts of a large panel, so that
the flow runs on a few gene programs instead of on every gene. The folder ``calibration`` decides how much weight these
predictions get, ``inference`` runs them on a slide, ``training`` fits the weights of the flow, and ``checkpoints``
stores them. See ``docs/method.md`` for the equations.
"""
