"""Handle errors of methods that the user or a timer calls."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

__all__ = ["Recoverable", "handle_errors"]


class Recoverable(Protocol):
    """An object that can go on after one of its methods failed."""

    on_error: Callable[[Exception], None] | None

    def recover(self) -> None:
        """Return to a consistent state."""


Self = TypeVar("Self", bound=Recoverable)
Params = ParamSpec("Params")


def handle_errors(method: Callable[Concatenate[Self, Params], None]) -> Callable[Concatenate[Self, Params], None]:
    """Decorate a method so that its object recovers from an error and ``on_error`` receives it, if there is one."""

    @functools.wraps(method)
    def wrapper(self: Self, /, *args: Params.args, **kwargs: Params.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            if self.on_error is None:
                raise
            self.recover()
            self.on_error(error)

    return wrapper
