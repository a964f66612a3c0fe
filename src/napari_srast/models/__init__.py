"""The two stages, SASA and PCFM, and what surrounds them: programs, calibration, checkpoints."""
