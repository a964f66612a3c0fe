"""Space Ranger folders (Visium, Visium HD), read by their documented layout.

``layout`` finds the files, ``positions`` and ``matrix`` read them, ``geometry`` turns the array of the spots into
micrometers, ``images`` places the pictures of the folder, and ``reader`` builds the slide.
"""

from napari_srast.io.convert.space_ranger.layout import is_space_ranger

__all__ = ["is_space_ranger"]
