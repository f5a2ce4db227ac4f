"""Clients beside one another: turns by work, shares of the queue, and what is refused at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bundle.record.fields import Tensors
from service.engine.batcher import Batcher
from service.engine.portions import Outcome
from service.errors import DeadlineExceeded, QueueFull
from tests.service.engine.batching import Backend, kinds, score, send, serving, turns, until


@pytest.mark.parametrize("seconds_per_draw", [0.0, 2.0**-9, 1.0])
async def test_a_request_is_cut_alike_however_long_runs_take_and_a_row_at_least(seconds_per_draw: float) -> None:
    async with serving(max_batch_draws=10, inline_seconds=2.0**-5) as (backend, batcher):
        backend.opened, backend.seconds_per_draw = True, seconds_per_draw
        for _ in range(2):
            await score(batcher, range(20), 2)
            await score(batcher, range(3), 100)
    cut = [5] * 4 + [1] * 3
    assert backend.log["batch"][: len(cut)] == cut, "while nothing is known of how long they take"
    if seconds_per_draw:
        assert backend.log["batch"] == cut * 2


async def test_a_short_request_never_waits_for_a_long_run_and_a_long_one_for_long_ones_alone() -> None:
    async with serving(inline_seconds=2.0**-5, max_queue_rows=1000) as (backend, batcher):
        backend.seconds_per_draw = 2.0**-10
        first = send(batcher, [0])
        await backend.started(1)
        backend.runs[0].gate.set()
        await first
        long = [send(batcher, range(60), client=client) for client in "ab"]
        await backend.started(2)
        for i in range(20):
            await score(batcher, [i], client="a")  # though one of its own waits as well
        assert [run.ids for run in backend.runs[2:]] == [[i] for i in range(20)]
        assert not any(task.done() for task in long)
        backend.open()
        await asyncio.gather(*long)


async def test_clients_take_turns_by_work_and_who_comes_goes_next() -> None:
    async with serving() as (backend, batcher):
        tasks = [send(batcher, [0])]
        await backend.started(1)
        tasks += [send(batcher, [1] * 8, client="many") for _ in range(5)]
        tasks += [send(batcher, [2] * 8, 2, client="draws") for _ in range(3)]
        await turns()
        for run in range(3):
            backend.runs[run].gate.set()
            await backend.started(run + 2)
        tasks += [send(batcher, [3], client="newcomer")]
        await turns()
        backend.open()
        await asyncio.gather(*tasks)
    assert [ids[0] for ids in backend.ids] == [0, 1, 2, 1, 3, 2, 1, 1, 2, 1]


async def test_small_requests_of_many_clients_share_a_batch() -> None:
    async with serving() as (backend, batcher):
        tasks = [send(batcher, [0])]
        await backend.started(1)
        tasks += [send(batcher, [i], client=str(i)) for i in range(1, 9)]
        await turns()
        backend.open()
        await asyncio.gather(*tasks)
    assert backend.ids == [[0], list(range(1, 9))]


async def test_a_full_queue_is_shared_out() -> None:
    async with serving(max_queue_rows=40, max_request_rows=40) as (backend, batcher):
        running = send(batcher, [0])
        await backend.started(1)
        first, second, third, fourth = (send(batcher, [i] * 10, client="many") for i in range(4))
        await turns()
        assert batcher.is_full("many", 39)
        assert not batcher.is_full("few", 39)
        assert await kinds([send(batcher, [5], client="many")]) == [QueueFull]
        assert await kinds([send(batcher, [5] * 21, client="few")]) == [QueueFull]  # more than its share
        few = send(batcher, [5] * 20, client="few")
        assert await kinds([fourth, third]) == [QueueFull] * 2
        assert await kinds([send(batcher, [6], client="few"), send(batcher, [6], client="many")]) == [QueueFull] * 2
        third_client = send(batcher, [7] * 10, client="third")
        assert await kinds([second]) == [QueueFull]
        assert batcher.queued_rows == 40
        backend.open()
        assert await kinds([running, first, few, third_client]) == [Outcome] * 4


@asynccontextmanager
async def paced(seconds_per_draw: float, **options: Any) -> AsyncIterator[tuple[Backend, Batcher[Tensors]]]:
    """A batcher that knows how long a draw takes, and whose thread is taken."""
    async with serving(max_queue_rows=10_000, max_request_rows=1000, **options) as (backend, batcher):
        backend.seconds_per_draw = seconds_per_draw
        first = send(batcher, range(8))
        await backend.started(1)
        backend.runs.pop().gate.set()
        await first
        running = send(batcher, [0], client="before")
        await backend.started(1)
        yield backend, batcher
        backend.open()
        await running


async def test_what_cannot_be_answered_in_time_is_refused_at_once() -> None:
    async with paced(0.01) as (backend, batcher):
        now = backend.clock.now
        waiting = [send(batcher, range(300), deadline=now + 10, client="a") for _ in range(3)]  # 3 seconds each
        await turns()
        refused = [
            send(batcher, range(300), deadline=now + 10, client="a"),  # behind nine seconds of its own
            send(batcher, range(300), deadline=now + 5.9, client="b"),  # takes turns with the other: six
            send(batcher, range(300), deadline=now + 2.9, client="c"),  # on an idle machine, too
        ]
        assert await kinds(refused) == [QueueFull, QueueFull, DeadlineExceeded]
        assert "about 9 s of work wait" in str(refused[0].exception())
        assert "about 3 s of work wait" in str(refused[1].exception())
        assert "this would take about 3 s" in str(refused[2].exception())
        waiting += [send(batcher, range(300), deadline=now + 6.1, client="b")]
        waiting += [send(batcher, [0], deadline=now + 0.1, client="c")]
        await turns()
        assert not any(task.done() for task in waiting)
        [task.cancel() for task in waiting]


async def test_what_was_let_in_is_given_up_at_once_when_others_have_come_meanwhile() -> None:
    async with paced(0.01) as (backend, batcher):
        now = backend.clock.now
        first, second, third = (send(batcher, range(300), deadline=now + 10, client="a") for _ in range(3))
        await turns()
        others = [send(batcher, range(100), deadline=now + 100, client=str(i)) for i in range(20)]
        await turns()
        assert not third.done()
        backend.runs[0].gate.set()
        await until(third.done)
        assert "also for others" in str(third.exception())
        assert backend.clock.now < now + 1
        [task.cancel() for task in (first, second, *others)]


async def test_an_estimate_that_refuses_and_is_not_confirmed_heals() -> None:
    async with paced(0.01) as (backend, batcher):
        backend.open()
        await score(batcher, [0])
        now = backend.clock.now
        assert await kinds([send(batcher, range(300), deadline=now + 1.4)]) == [DeadlineExceeded]
        backend.seconds_per_draw = 0.001
        backend.clock.now = now = now + 10.0
        assert await kinds([send(batcher, range(300), deadline=now + 1.4)]) == [Outcome]
