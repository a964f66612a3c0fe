"""Methods that predict tiles: interpolations, and SASA + PCFM. ``registry`` chooses one by its name."""
