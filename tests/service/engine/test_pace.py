"""How long runs take: what disturbs one of them is not believed, what lasts is."""

import math

from hypothesis import given
from hypothesis import strategies as st

from service.engine.pace import Pace

SHORT = 16
"""Draws of a short run."""


def paced(seconds: list[float]) -> Pace:
    pace = Pace(2**14)
    for each in seconds:
        pace.note(each, SHORT, 0.0, long=False)
    return pace


@given(st.lists(st.floats(0.0, 100.0), max_size=20))
def test_a_run_that_the_machine_held_up_changes_nothing(held_up: list[float]) -> None:
    """However long: the others say how long such a run takes."""
    usual = 1e-3
    pace = paced([usual])
    for each in held_up:
        pace.note(usual + each, SHORT, 0.0, long=False)
        pace.note(usual, SHORT, 0.0, long=False)
    assert math.isclose(pace.any, usual / SHORT)


@given(st.floats(0.01, 100.0))
def test_a_model_that_has_become_slow_is_known_as_slow_after_some_runs(slow: float) -> None:
    assert paced([1e-3] + [slow] * 15).any * SHORT > 2e-3


def test_one_that_has_become_quick_is_known_as_quick() -> None:
    assert paced([1.0] + [1e-3] * 40).any * SHORT < 2e-3


def test_nothing_is_known_before_a_run_nor_after_one_that_failed() -> None:
    assert Pace(100).any == math.inf
    pace = paced([1e-3])
    pace.forget()
    assert pace.any == math.inf
    pace.note(2e-3, SHORT, 0.0, long=False)
    assert pace.any == 2e-3 / SHORT
