"""Threads that clients share: turns, what a client leaves to others, and callers who leave."""

import asyncio
import threading

import pytest

from service.wire.client import CURRENT
from service.wire.threads import Threads


def as_client(name: str, threads: Threads, gate: threading.Event, order: list[str]) -> asyncio.Task[None]:
    def work() -> None:
        order.append(name)
        gate.wait()

    async def run() -> None:
        CURRENT.set(name)
        await threads.run(work)

    return asyncio.get_running_loop().create_task(run())


async def started(order: list[str], count: int) -> None:
    while len(order) < count:
        await asyncio.sleep(0)


async def test_one_client_leaves_a_thread_to_another() -> None:
    threads, gate, order = Threads("test", 3), threading.Event(), list[str]()
    tasks = [as_client("many", threads, gate, order) for _ in range(10)]
    await started(order, 2)
    tasks.append(as_client("other", threads, gate, order))
    await started(order, 3)
    assert sorted(order) == ["many", "many", "other"]
    gate.set()
    await asyncio.gather(*tasks)
    threads.close()


async def test_clients_have_their_turns_one_after_the_other() -> None:
    threads, gate, order = Threads("test", 2), threading.Event(), list[str]()
    tasks = [as_client("first", threads, gate, order), as_client("second", threads, gate, order)]
    await started(order, 2)
    tasks += [as_client("a", threads, gate, order) for _ in range(5)]
    tasks += [as_client("b", threads, gate, order) for _ in range(5)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks)
    turns = [name for name in order if name in ("a", "b")]
    assert len(turns) == 10
    for end in range(len(turns)):
        assert abs(turns[:end].count("a") - turns[:end].count("b")) <= 1, turns
    threads.close()


async def test_a_caller_who_leaves_while_waiting_takes_no_thread() -> None:
    threads, gate, order = Threads("test", 2), threading.Event(), list[str]()
    running = as_client("a", threads, gate, order)
    await started(order, 1)
    waiting = as_client("a", threads, gate, order)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    await running
    assert order == ["a"]
    for _ in range(4):  # all threads are free again
        await as_client("a", threads, gate, order)
    threads.close()


async def test_what_a_function_raises_reaches_its_caller() -> None:
    threads = Threads("test", 2)
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    assert await threads.run(lambda a, b: a + b, 1, 2) == 3
    threads.close()
