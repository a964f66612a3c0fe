"""Messages of the window: the status line, error messages and the report of the last error."""

from __future__ import annotations

from psygnal import Signal

__all__ = ["Messages"]


class Messages:
    """Signals for texts that the user reads; every part of the window may emit them.

    Attributes
    ----------
    status_message
        Signal with a text for the status line.
    error_message
        Signal with an error text that names the problem and the next step.
    error_report
        Report of the last failed task, to be copied for the developers; None if nothing has failed.
    """

    status_message = Signal(str)
    error_message = Signal(str)

    def __init__(self) -> None:
        self.error_report: str | None = None
