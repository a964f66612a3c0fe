"""Threads, processes, garbage collection and error reports of the window."""
