"""State of the window: open slides, displayed results, run requests and user preferences."""
