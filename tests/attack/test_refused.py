"""What a refused request has sent is forgotten with it."""

import pytest

from benchmarks.attack import refused
from benchmarks.attack.memory import MEBIBYTE
from tests.attack.conftest import DOCUMENTED, Attacked

FIRST, LATER = 60, 240
MOST_LEFT = 5 * MEBIBYTE
"""Which later requests of a MiB each may leave, all together."""


def test_later_refusals_add_nothing(attacked: Attacked) -> None:
    statuses, left = refused.growth(attacked.server, FIRST, LATER)
    assert set(statuses) <= DOCUMENTED
    assert left < MOST_LEFT


@pytest.mark.parametrize("name", sorted(refused.requests()))
def test_what_is_sent_to_be_refused_is_refused(attacked: Attacked, name: str) -> None:
    statuses, _ = refused.growth(attacked.server, 1, 0, [refused.requests()[name]])
    # A stream's head is sent before its first line is read.
    assert statuses[0] >= 400 or name == "a line too long"
