import asyncio
import math
import random
import threading
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.record.fields import Tensors
from service.engine.portions import Outcome
from service.errors import DeadlineExceeded, InferenceFailed, QueueFull, ShuttingDown, TooManyRecords
from tests.service.engine.batching import NEVER, PATIENCE, kinds, score, send, serving, turns, until


@pytest.mark.parametrize("inline", [0.0, math.inf], ids=["threads", "inline"])
async def test_everyone_gets_their_own_rows_and_nobody_is_overtaken(inline: float) -> None:
    tasks, first, dice = [], 0, random.Random(7)
    async with serving(inline_seconds=inline, max_batch_rows=64, max_queue_rows=10**6) as (backend, batcher):
        backend.opened = True
        for _ in range(2000):
            ids = range(first, first + dice.randint(1, 70))  # some are split
            tasks.append(send(batcher, ids, dice.choice([1, 4, 16])))
            first = ids.stop
        await asyncio.gather(*tasks)
    assert backend.log["batch"] == [len(ids) for ids in backend.ids]
    assert max(backend.log["batch"]) == 64
    for samples in (1, 4, 16):
        ran = [i for run in backend.runs if run.samples == samples for i in run.ids]
        assert ran == sorted(ran)


async def test_whoever_leaves_is_not_run_if_queued_and_does_not_hurt_the_others() -> None:
    async with serving() as (backend, batcher):
        first, running, last = (send(batcher, ids) for ids in ([1], [2, 3], [4]))
        await backend.started(1)
        queued, behind = send(batcher, [5, 6, 7]), send(batcher, [8])
        await turns()
        assert batcher.queued_rows == 4
        running.cancel()
        queued.cancel()
        await turns(2)
        assert batcher.queued_rows == backend.log["queued"][-1] == 1
        backend.open()
        await asyncio.gather(first, last, behind)
        leaving, staying = send(batcher, [9]), send(batcher, [10])
        await turns(1)  # both are queued, and in the next turn the batch forms
        leaving.cancel()
        await staying
    assert backend.ids == [[1, 2, 3, 4], [8], [10]]
    assert backend.log["abandoned"] == [3, 1]


async def test_an_answered_request_is_forgotten_though_its_deadline_is_still_to_come() -> None:
    async with serving(inline_seconds=math.inf) as (backend, batcher):
        backend.opened = True
        for _ in ("thread", "inline"):
            rows = {"id": np.arange(9), "x": np.zeros((9, 2)), "samples": np.ones(9)}
            array = weakref.ref(rows["x"])
            await batcher.submit(rows, 1, PATIENCE, "")
            del rows
            await until(lambda: array() is None)  # noqa: B023 - awaited here


@pytest.mark.parametrize("fault", [RuntimeError("no memory"), StopIteration("odd"), 1], ids=repr)
@pytest.mark.parametrize("inline", [0.0, math.inf], ids=["threads", "inline"])
async def test_a_failed_run_is_told_to_each_member_and_the_next_one_works(fault: Any, inline: float) -> None:
    async with serving(inline_seconds=inline) as (backend, batcher):
        backend.opened = True
        await score(batcher, [0])  # now the speed is known
        backend.fault = fault
        tasks = [send(batcher, [1]), send(batcher, [2, 3])]
        assert await kinds(tasks) == [InferenceFailed] * 2
        error, other = (task.exception() for task in tasks)
        assert error is not other
        assert error is not None
        assert error.__cause__ is not None
        causes = (error.__cause__, error.__cause__.__cause__)
        assert fault in causes or "expected 3 rows of 'id', got 2" in str(causes)
        backend.fault = 0
        await score(batcher, [4])
        assert backend.runs[-1].thread != threading.get_ident()  # its speed is not trusted any more


async def test_what_does_not_fit_is_refused() -> None:
    async with serving(max_queue_rows=10, max_request_rows=10) as (backend, batcher):
        tasks = [send(batcher, [0])]
        await backend.started(1)
        tasks += [send(batcher, range(9))]
        await turns()
        others = [send(batcher, range(11)), send(batcher, [1, 2]), send(batcher, [1], deadline=0.0)]
        assert await kinds(others) == [TooManyRecords, QueueFull, DeadlineExceeded]
        for rows in ({}, {"id": np.zeros(0)}, {"id": np.zeros(2), "x": np.zeros((3, 1))}):
            with pytest.raises(ValueError, match="one length above 0"):
                await batcher.submit(rows, 1, NEVER, "")
        tasks += [send(batcher, [3])]
        await turns()
        assert batcher.queued_rows == 10
        backend.open()
        await asyncio.gather(*tasks)


async def test_a_deadline_frees_the_place_at_once_queued_or_running() -> None:
    async with serving(max_queue_rows=50) as (backend, batcher):
        backend.clock.drive_loop()
        running, partner = send(batcher, [-1], deadline=20.0), send(batcher, [-2], deadline=30.0)
        await backend.started(1)
        queued = send(batcher, range(50), deadline=20.0)
        await turns()
        backend.clock.now = 20.0
        await turns(3)
        assert await kinds([running, queued]) == [DeadlineExceeded] * 2
        newcomer = send(batcher, range(50))
        await turns()
        assert batcher.queued_rows == 50
        backend.open()
        await asyncio.gather(partner, newcomer)
    assert sum(backend.log["batch"]) == 2 + 50


async def test_a_deadline_that_passed_while_the_loop_was_held_up_is_seen_before_the_run() -> None:
    async with serving() as (backend, batcher):
        tasks = [send(batcher, [0])]
        await backend.started(1)
        tasks += [send(batcher, [i], deadline=PATIENCE + i) for i in (0, 1)]
        await turns()
        backend.clock.now = PATIENCE  # which the loop's own timers do not see
        backend.open()
        assert await kinds(tasks) == [Outcome, DeadlineExceeded, Outcome]


async def test_closing_refuses_newcomers_and_answers_the_others() -> None:
    async with serving() as (backend, batcher):
        tasks = [send(batcher, range(i, i + 5)) for i in range(0, 50, 5)]
        await backend.started(1)
        assert batcher.queued_rows == 45
        closing = [asyncio.create_task(batcher.aclose(PATIENCE)) for _ in range(2)]
        await turns(1)
        assert await kinds([send(batcher, [1])]) == [ShuttingDown]
        backend.runs[0].gate.set()
        await backend.started(2)
        assert not any(task.done() for task in closing)
        backend.open()
        await asyncio.gather(*tasks, *closing)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_closing_leaves_a_stuck_backend_behind(cancelled: bool) -> None:
    others = asyncio.all_tasks()
    async with serving() as (backend, batcher):
        tasks = [send(batcher, ids) for ids in ([1], [2] * 8, [3])]
        await backend.started(1)
        closing = asyncio.create_task(batcher.aclose(PATIENCE if cancelled else 0.0))
        await turns(1)
        if cancelled:
            closing.cancel()
        await asyncio.wait({closing})
        assert await kinds(tasks) == [ShuttingDown] * 3
        assert (batcher.queued_rows, asyncio.all_tasks()) == (0, others)
    assert backend.ids == [[1]]


async def test_a_request_larger_than_a_batch_is_split_and_joined() -> None:
    async with serving() as (backend, batcher):
        backend.opened, backend.seconds_per_draw = True, 2.0**-11
        answer, _ = await asyncio.gather(score(batcher, range(20), 2), score(batcher, [20], 2))
    full = 2.0**-7  # seconds
    assert (answer.waited, answer.ran) == (2 * full, full + full + full * 5 / 8)
    assert (backend.log["batch"], backend.log["ran"]) == ([8, 8, 5], [full, full, full * 5 / 8])
    assert backend.log["waited"] == [0.0, full, 2 * full, 2 * full]


async def test_a_failed_piece_fails_the_request_and_the_others_are_not_run() -> None:
    async with serving() as (backend, batcher):
        large = send(batcher, range(30))
        await backend.started(1)
        backend.runs[0].gate.set()
        await backend.started(2)
        backend.runs[1].fault = RuntimeError("no memory")
        backend.open()
        assert await kinds([large]) == [InferenceFailed]
        await score(batcher, [7])
    assert backend.log["batch"] == [8, 8, 1]
    assert backend.log["abandoned"] == [14]


async def test_a_batch_holds_one_value_of_samples_and_the_oldest_goes_first() -> None:
    async with serving() as (backend, batcher):
        tasks = [send(batcher, [0])]
        await backend.started(1)
        for ids, samples in (([1, 2], 4), ([3], 1), ([4] * 5, 4), ([5, 6], 4), ([7], 1), ([8], 4)):
            tasks.append(send(batcher, ids, samples))
        await turns()
        backend.open()
        await asyncio.gather(*tasks)
    # [5, 6] does not fit into the second batch, and [8], which would, does not overtake it.
    assert backend.ids == [[0], [1, 2] + [4] * 5, [3, 7], [5, 6, 8]]


async def test_short_runs_stay_on_the_loop_and_join_what_came_in_one_turn() -> None:
    async with serving(inline_seconds=0.1) as (backend, batcher):
        backend.opened, backend.seconds_per_draw, here = True, 0.001, threading.get_ident()
        await score(batcher, [0])
        await asyncio.gather(*[score(batcher, [i]) for i in range(8)])
        await score(batcher, [1], 128)  # would take longer than 0.1 seconds
        assert [run.thread == here for run in backend.runs] == [False, True, False]
        assert backend.ids[1] == list(range(8))
        tasks = [send(batcher, [i] * 8) for i in range(5)]
        while not all(task.done() for task in tasks):
            before = len(backend.runs)
            await turns(1)
            assert len(backend.runs) <= before + 1  # one run a turn, or the loop would be held for longer
        backend.seconds_per_draw = 10.0
        for each in (1, 2, 3):
            await score(batcher, [each])
        # One slow run may be the machine's; a second one is the model's.
        assert [run.thread == here for run in backend.runs[3:]] == [True] * 7 + [False]


@pytest.mark.parametrize("way", ["error", "cancelled"])
async def test_the_death_of_the_loop_is_told_to_everyone(way: str) -> None:
    others = asyncio.all_tasks()
    async with serving() as (backend, batcher):
        tasks = [send(batcher, [0] * 8)]
        await backend.started(1)
        assert batcher.healthy
        if way == "error":
            backend.log["waited"] = None  # type: ignore[assignment]  # so that the observer raises
            backend.runs[0].gate.set()
        else:
            [task.cancel() for task in asyncio.all_tasks() - others - set(tasks)]
        tasks += [send(batcher, [i] * 8) for i in (1, 2)]
        await until(lambda: not batcher.healthy)
        for doomed in [*tasks[way == "error" :], score(batcher, [3])]:  # the first of them has run
            with pytest.raises(InferenceFailed, match="loop has died") as caught:
                await doomed
            assert isinstance(caught.value.__cause__, asyncio.CancelledError) == (way == "cancelled")
        assert batcher.queued_rows == 0


class Asked(NamedTuple):
    """A request of the property test."""

    ids: range
    samples: int
    client: str


STEP = st.tuples(
    st.sampled_from(["submit", "submit", "cancel", "finish", "pass"]),
    st.integers(0, 11),
    st.sampled_from([1, 2]),
    st.sampled_from("abc"),
    st.sampled_from([NEVER, 0.1, 1.0]),
)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(STEP, max_size=40),
    cost=st.sampled_from([0.0, 0.001, 0.004, 0.1]),
    inline=st.sampled_from([0.0, 0.01, 1.0]),
    stuck=st.booleans(),
)
async def test_every_submit_ends_once_whatever_happens(
    steps: list[Any], cost: float, inline: float, stuck: bool
) -> None:
    asked, tasks, cancelled = list[Asked](), list[asyncio.Task[Outcome[Tensors]]](), 0
    async with serving(inline_seconds=inline, max_batch_rows=5, max_queue_rows=16) as (backend, batcher):
        backend.clock.drive_loop()
        backend.seconds_per_draw = cost
        for step, number, samples, client, seconds in steps:
            if step == "submit":
                asked.append(Asked(range(100 * len(asked), 100 * len(asked) + number + 1), samples, client))
                deadline = backend.clock.now + seconds
                tasks.append(send(batcher, asked[-1].ids, samples, deadline=deadline, client=client))
            elif step == "cancel" and number < len(tasks):
                cancelled += tasks[number].cancel()
            elif step == "pass":
                backend.clock.now += number / 20
            elif step == "finish":
                for run in backend.runs:
                    if not run.gate.is_set():
                        run.fault = number % 2
                        run.gate.set()
            await turns()
            assert batcher.queued_rows <= 16
        if stuck:
            await batcher.aclose(0.0)
        backend.open()
        ends = await kinds(tasks)
    kept = {Outcome, InferenceFailed, QueueFull, DeadlineExceeded, asyncio.CancelledError, ShuttingDown}
    assert set(ends) <= kept
    assert ends.count(asyncio.CancelledError) == cancelled
    assert stuck or ShuttingDown not in ends
    failed = {i for run in backend.runs if run.fault for i in run.ids}
    assert all(failed & set(each.ids) for each, end in zip(asked, ends, strict=True) if end is InferenceFailed)
    assert max(backend.log["batch"], default=0) <= 5
    ran = [i for run in backend.runs for i in run.ids]
    assert len(ran) == len(set(ran)), "no row runs twice"
    for each, end in zip(asked, ends, strict=True):
        assert end is not Outcome or set(each.ids) <= set(ran)
    # What was let in has run or was abandoned, but for what was refused on arrival.
    let_in = sum(backend.log["batch"]) + sum(backend.log["abandoned"])
    never = sum(
        len(each.ids) for each, end in zip(asked, ends, strict=True) if end not in (QueueFull, DeadlineExceeded)
    )
    assert never <= let_in <= sum(len(each.ids) for each in asked)
