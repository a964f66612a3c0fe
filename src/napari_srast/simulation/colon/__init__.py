"""Simulate the tissue of the built-in slide.

``layout`` generates zones and cells, ``expression`` samples the counts of the cells, and ``histology`` renders the
stained image. :mod:`napari_srast.datasets.synthetic_colon` combines them.
"""
