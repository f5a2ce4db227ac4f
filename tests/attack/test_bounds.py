"""Whatever is sent: a documented answer, a worker that stays within its bound, and health checks that go on."""

from collections.abc import Iterable
from itertools import chain, islice

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from benchmarks.attack import arrow, bodies
from benchmarks.attack.case import ARROW
from benchmarks.attack.exchange import Request, packed
from benchmarks.attack.health import Health
from tests.attack.conftest import Attacked
from tests.attack.made import VALID, Made, bearable, requests

EXAMPLES = 150
SIZE = 8 * 2**20
MOST_TOLD = 4


PROPERTY = settings(
    derandomize=True,
    max_examples=EXAMPLES,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
    database=None,
)


def test_bodies_of_every_format_stay_within_the_bound(attacked: Attacked) -> None:
    wrong: list[str] = []

    # Kept, not raised: what others before it left behind may be part of it, and would be gone when it is tried again.
    @PROPERTY
    @given(requests())
    def holds(made: Made) -> None:
        if len(wrong) < MOST_TOLD and (found := attacked.wrong_with(made.request)):
            wrong.append(found)

    with Health(attacked.server.port, 1) as health:
        holds()
    assert wrong == []
    assert health.checks.failed == 0
    assert health.checks.answered > EXAMPLES


@pytest.mark.parametrize("name", sorted(VALID))
def test_what_is_mutated_is_answered_before_it_is(attacked: Attacked, name: str) -> None:
    assert attacked.wrong_with(VALID[name]) is None


def first_wrong(attacked: Attacked, made: Iterable[tuple[str, Request]]) -> list[str]:
    """What the first few requests after which something does not hold have done; each costs a fresh server."""
    found = (f"{name}: {wrong}" for name, request in made if (wrong := attacked.wrong_with(request)))
    return list(islice(found, MOST_TOLD))


@pytest.mark.parametrize("start", ["json", "ndjson", "csv", "v2", "arrow"])
def test_every_shape_of_the_attacks_stays_within_the_bound(attacked: Attacked, start: str) -> None:
    shapes = [shape for shape in (*bodies.SHAPES, *arrow.SHAPES) if shape.name.startswith(start)]
    assert shapes
    made = ((shape.name, packed(bearable(shape.request(SIZE)), level=1)) for shape in shapes)
    assert first_wrong(attacked, made) == []


def test_every_claim_of_a_length_stays_within_the_bound(attacked: Attacked) -> None:
    streams = ((name, Request("/score", {"Content-Type": ARROW}, make())) for name, make in arrow.CLAIMS.items())
    assert first_wrong(attacked, chain(streams, bodies.binary_requests(SIZE))) == []
