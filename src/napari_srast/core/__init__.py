"""Data model: slides, regions, settings, progress, results and the checks of mass balance."""
