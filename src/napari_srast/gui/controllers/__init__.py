"""Actions of the window without widgets: slides, regions, runs and results."""
