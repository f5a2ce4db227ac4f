"""The queue that is shared out: nobody is starved, nothing is lost, whoever comes and leaves."""

import asyncio
import math
from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bundle.record.fields import Tensors
from service.engine.fair_queue import FairQueue
from service.engine.portions import Request

ROWS, DRAWS = 8, 16


def request(size: int, samples: int, client: str) -> Request[Tensors]:
    return Request({"id": np.arange(size)}, size, samples, client, 0.0, 1.0, asyncio.Future())


SIZES = st.tuples(st.integers(1, 30), st.sampled_from([1, 2, 32]))


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(SIZES, min_size=1, max_size=8), min_size=1))
async def test_backlogged_clients_are_given_the_same_work(queues: dict[str, list[tuple[int, int]]]) -> None:
    queue = FairQueue[Tensors]()
    requests = [request(*each, client) for client, sizes in queues.items() for each in sizes]
    for each in requests:
        queue.add(each)
    waiting = Counter({client: sum(size * samples for size, samples in sizes) for client, sizes in queues.items()})
    given_to, runs = Counter[str](), dict[Request[Tensors], list[int]]()
    while queue:
        assert queue.draws == waiting.total()
        batch, late = queue.take(ROWS, DRAWS, now=0.0, filled=math.inf)
        assert batch, "what waits is served"
        assert not late
        assert sum(portion.size for portion in batch) <= ROWS
        assert len({portion.request.samples for portion in batch}) == 1
        samples = batch[0].request.samples
        assert sum(portion.size for portion in batch) * samples <= DRAWS or (len(batch), batch[0].size) == (1, 1)
        for portion in batch:
            given_to[portion.request.client] += portion.size * samples
            waiting[portion.request.client] -= portion.size * samples
            runs.setdefault(portion.request, []).extend(range(portion.first, portion.first + portion.size))
        behind = [given_to[client] for client in queues if waiting[client]]
        if behind:
            assert max(given_to.values()) - min(behind) <= 2 * 32
    for each in requests:
        assert runs[each] == list(range(each.size)), "each row once, in order"


STEP = st.tuples(st.sampled_from(["add", "take", "remove"]), st.integers(0, 40), st.sampled_from("abc"))


@given(st.lists(STEP, max_size=60))
async def test_whoever_comes_and_leaves_the_sums_are_right_and_a_newcomer_goes_next(steps: list[Any]) -> None:
    queue, inside = FairQueue[Tensors](), list[Request[Tensors]]()
    for step, number, client in steps:
        if step == "add":
            inside.append(request(number + 1, 1, client))
            queue.add(inside[-1])
        elif step == "remove" and number < len(inside):
            each = inside.pop(number)
            assert queue.remove(each) == each.size - each.taken
            assert queue.remove(each) == 0
        elif step == "take":
            batch, _ = queue.take(ROWS, DRAWS, now=0.0, filled=math.inf)
            assert bool(batch) == bool(inside)
            inside = [each for each in inside if each.taken < each.size]
        left = Counter[str]()
        for each in inside:
            left[each.client] += each.size - each.taken
        assert Counter(dict(queue.rows_by_client())) == left
        assert queue.draws == left.total()
    newcomer = request(1, 1, "new")
    queue.add(newcomer)
    turns = 0
    while newcomer.taken == 0:
        queue.take(ROWS, DRAWS, now=0.0, filled=math.inf)
        turns += 1
    assert turns <= len(set(left if steps else ())) + 1


async def test_what_is_late_is_told_and_what_has_left_is_forgotten() -> None:
    queue = FairQueue[Tensors]()
    for i in range(100):
        each = request(1, 1, str(i))
        queue.add(each)
        queue.remove(each)
    kept = request(1, 1, "kept")
    kept.deadline = 5.0
    queue.add(kept)
    assert queue.take(ROWS, DRAWS, now=5.0, filled=math.inf) == ([], [kept])
    queue.remove(kept)
    assert queue.take(ROWS, DRAWS, now=5.0, filled=math.inf) == ([], [])
    assert not queue
    assert not list(queue.rows_by_client())
