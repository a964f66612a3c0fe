"""Methods that predict tiles: interpolations, and SASA + PCFM."""
