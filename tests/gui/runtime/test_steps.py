from __future__ import annotations

from collections.abc import Callable

from napari_srast.gui.runtime.steps import take_steps

Function = Callable[[], None]


def test_steps_are_taken_one_per_turn_while_they_are_wanted() -> None:
    turns: list[Function] = []
    taken: list[int] = []
    wanted = [True]
    steps = [lambda number=number: taken.append(number) for number in range(4)]
    take_steps(steps, turns.append, is_wanted=lambda: bool(wanted), on_error=lambda _: None)
    assert taken == [0]
    turns.pop()()
    assert taken == [0, 1]
    wanted.clear()
    turns.pop()()
    assert taken == [0, 1]
    assert not turns


def test_steps_without_a_schedule_are_taken_at_once_until_one_fails() -> None:
    taken: list[str] = []
    errors: list[Exception] = []

    def fail() -> None:
        raise RuntimeError("boom")

    first, last = (lambda: taken.append("first")), (lambda: taken.append("last"))
    take_steps([first, fail, last], None, is_wanted=lambda: True, on_error=errors.append)
    assert taken == ["first"]
    assert [str(error) for error in errors] == ["boom"]
    take_steps([first, last], None, is_wanted=lambda: True, on_error=errors.append)
    assert taken == ["first", "first", "last"]
