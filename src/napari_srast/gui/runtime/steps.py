"""Take several steps in the GUI thread with pauses between them, in which the window is drawn and reacts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

__all__ = ["take_steps"]


def take_steps(
    steps: Sequence[Callable[[], None]],
    schedule: Callable[[Callable[[], None]], None] | None,
    *,
    is_wanted: Callable[[], bool],
    on_error: Callable[[Exception], None],
) -> None:
    """Take the first step now, and each further one in a later turn of the event loop.

    Parameters
    ----------
    steps
        What to do, in this order.
    schedule
        Runs a function later; None: all steps are taken now.
    is_wanted
        Returns whether to take the next step; if not, it and all further ones are dropped.
    on_error
        Called with the exception of a step that fails; further steps are dropped.
    """
    for position, step in enumerate(steps, start=1):
        if not is_wanted():
            return
        try:
            step()
        except Exception as error:  # noqa: BLE001 - otherwise the window would stay busy forever
            on_error(error)
            return
        rest = steps[position:]
        if rest and schedule is not None:
            schedule(partial(take_steps, rest, schedule, is_wanted=is_wanted, on_error=on_error))
            return
