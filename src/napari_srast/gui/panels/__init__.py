"""The controls of the dock widget, one part of the window in each module."""
