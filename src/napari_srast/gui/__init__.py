"""The dock widget for napari; the only package that imports napari or Qt.

``state`` holds the open slides and their results, ``controllers`` act on them, ``layers`` draw them in the viewer,
``panels`` and ``widgets`` are the controls, ``export`` writes results, ``runtime`` runs background tasks.
"""
