import asyncio
import math
import random
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batcher import Answer, Batcher
from service.errors import DeadlineExceeded, InferenceFailed, QueueFull, ShuttingDown, TooManyRecords

PATIENCE = 60.0  # seconds until a test counts as hanging; no result depends on it


class Clock:
    """Seconds that pass only when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def drive_loop(self) -> None:  # or the loop's timers do not see these seconds
        asyncio.get_running_loop().time = lambda: time.monotonic() + self.now  # type: ignore[method-assign]


class Log(defaultdict[str, list[Any]]):
    """An observer: what it is told is listed under the method's name."""

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        return self[name].append


class Backend:
    """Holds each run at its gate, unless opened."""

    def __init__(self) -> None:
        self.clock, self.log, self.opened = Clock(), Log(list), False
        self.runs, self.ids = list[SimpleNamespace](), list[list[int]]()
        self.seconds_per_draw = 0.0  # that a run takes on the clock
        self.fault: Exception | int = 0  # an error to raise, or a number of rows to leave out of the answer

    def run(self, rows: Any, samples: int) -> Any:
        assert set(rows["samples"]) == {samples}
        run = SimpleNamespace(ids=rows["id"].tolist(), samples=samples, fault=self.fault, gate=threading.Event())
        run.thread = threading.get_ident()
        self.ids.append(run.ids)
        self.runs.append(run)
        assert self.opened or run.thread == threading.main_thread().ident or run.gate.wait(PATIENCE)
        self.clock.now += self.seconds_per_draw * len(run.ids) * samples
        if isinstance(run.fault, Exception):
            raise run.fault
        kept = len(run.ids) - run.fault
        return {"id": rows["id"][:kept], "score": (rows["x"].sum(axis=1) * samples)[:kept]}

    def open(self) -> None:
        self.opened = True
        for run in list(self.runs):
            run.gate.set()

    async def started(self, runs: int) -> None:
        await until(lambda: len(self.runs) == runs)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Backend, Batcher]]:
    """A batcher that must end in time, with an empty queue and no error that only the event loop heard of."""
    backend = Backend()
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    limits: dict[str, Any] = {"max_batch_rows": 8, "max_queue_rows": 100, "max_request_rows": 70}
    batcher = Batcher(backend, observer=backend.log, clock=backend.clock, **limits | options)
    try:
        async with asyncio.timeout(PATIENCE):
            yield backend, batcher
    finally:
        backend.open()
        await batcher.aclose(PATIENCE)
    await turns()
    assert (batcher.queued_rows, unheard) == (0, [])


async def score(
    batcher: Batcher, ids: Iterable[int], samples: int = 1, deadline: float | None = None, client: str = ""
) -> Answer:
    """Submits and checks that the answer is the request's own."""
    column = np.array(list(ids))
    x = np.stack([column * 0.5, column * 2.0], axis=1)
    rows = {"id": column, "x": x, "samples": np.full(len(column), samples)}
    answer = await batcher.submit(rows, samples, deadline, client)
    assert answer.rows["id"].tolist() == column.tolist()
    assert answer.rows["score"].tolist() == (column * 2.5 * samples).tolist()
    return answer


def send(batcher: Batcher, ids: Iterable[int], samples: int = 1, **options: Any) -> asyncio.Task[Answer]:
    return asyncio.create_task(score(batcher, ids, samples, **options))


async def kinds(tasks: list[asyncio.Task[Answer]]) -> list[type]:
    return [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # bounded by `serving`
        await asyncio.sleep(0)


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
            await batcher.submit(rows, 1, deadline=PATIENCE)
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
        causes = (error.__cause__, error.__cause__.__cause__)  # type: ignore[union-attr]
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
                await batcher.submit(rows, 1)
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
        assert await kinds(tasks) == [Answer, DeadlineExceeded, Answer]


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
        backend.seconds_per_draw = 1.0
        await score(batcher, [1])
        await score(batcher, [2])
        assert [run.thread == here for run in backend.runs[3:]] == [True] * 6 + [False]


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


async def test_a_batch_is_bounded_in_seconds_and_a_row_at_least() -> None:
    async with serving() as (backend, batcher):
        backend.opened, backend.seconds_per_draw = True, 2.0**-10
        await score(batcher, [0])  # now the speed is known
        await score(batcher, range(20), 2)
        await score(batcher, range(3), 100)
    assert backend.log["batch"] == [1] + [5] * 4 + [1] * 3


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
        tasks += [send(batcher, [2] * 4, 2, client="draws") for _ in range(3)]
        await turns()
        for run in range(3):
            backend.runs[run].gate.set()
            await backend.started(run + 2)
        tasks += [send(batcher, [3], client="newcomer")]
        await turns()
        backend.open()
        await asyncio.gather(*tasks)
    assert [ids[0] for ids in backend.ids] == [0, 1, 2, 1, 3, 2, 1, 2, 1, 1]


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
        assert await kinds([running, first, few, third_client]) == [Answer] * 4


@asynccontextmanager
async def paced(seconds_per_draw: float, **options: Any) -> AsyncIterator[tuple[Backend, Batcher]]:
    """A batcher that knows how long a draw takes, and whose thread is taken."""
    async with serving(max_queue_rows=10_000, max_request_rows=1000, **options) as (backend, batcher):
        backend.seconds_per_draw = seconds_per_draw
        for _ in range(2):
            first = send(batcher, range(8))
            await backend.started(1)
            backend.runs[0].gate.set()
            await first
            backend.runs.clear()
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
        assert await kinds([send(batcher, range(300), deadline=now + 1.4)]) == [Answer]


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
    st.sampled_from([None, 0.1, 1.0]),
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
    asked, tasks, cancelled = list[Asked](), list[asyncio.Task[Answer]](), 0
    async with serving(inline_seconds=inline, max_batch_rows=5, max_queue_rows=16) as (backend, batcher):
        backend.clock.drive_loop()
        backend.seconds_per_draw = cost
        for step, number, samples, client, seconds in steps:
            if step == "submit":
                asked.append(Asked(range(100 * len(asked), 100 * len(asked) + number + 1), samples, client))
                deadline = None if seconds is None else backend.clock.now + seconds
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
    kept = {Answer, InferenceFailed, QueueFull, DeadlineExceeded, asyncio.CancelledError, ShuttingDown}
    assert set(ends) <= kept
    assert ends.count(asyncio.CancelledError) == cancelled
    assert stuck or ShuttingDown not in ends
    failed = {i for run in backend.runs if run.fault for i in run.ids}
    assert all(failed & set(each.ids) for each, end in zip(asked, ends, strict=True) if end is InferenceFailed)
    assert max(backend.log["batch"], default=0) <= 5
    ran = [i for run in backend.runs for i in run.ids]
    assert len(ran) == len(set(ran)), "no row runs twice"
    for each, end in zip(asked, ends, strict=True):
        assert end is not Answer or set(each.ids) <= set(ran)
    # What was let in has run or was abandoned, but for what was refused on arrival.
    let_in = sum(backend.log["batch"]) + sum(backend.log["abandoned"])
    never = sum(len(each.ids) for each, end in zip(asked, ends, strict=True) if end not in (QueueFull, DeadlineExceeded))
    assert never <= let_in <= sum(len(each.ids) for each in asked)
