"""The built-in slide's tissue: generated, never measured.

``layout`` draws the zones and places the cells, ``expression`` gives every cell its counts, ``histology`` stains
them; :mod:`napari_srast.datasets.synthetic_colon` puts them together.
"""
