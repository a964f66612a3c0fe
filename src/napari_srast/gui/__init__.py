"""The dock widget; the only part that imports napari or Qt.

``controller`` holds the state and touches the viewer, ``panels`` hold the controls, ``widget`` joins them.
"""
