"""The memory that requests may take: shares, turns, what can never fit, and that all of it comes back."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.errors import BodyTooLarge, MemoryFull
from service.wire.memory_budget import TIMES_FREE, WORTH_GIVING_BACK, Budget, Lease


def test_alone_a_client_may_take_nearly_all_and_leaves_room_for_who_comes_next() -> None:
    budget = Budget(9000)
    assert budget.most == 8000
    assert not budget.take(8001, "a")
    assert budget.take(8000, "a")
    assert not budget.take(1, "a")
    assert budget.take(500, "b")
    assert budget.take(40, "c")


@settings(deadline=None)
@given(st.integers(100, 10**9), st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 10**9)), max_size=50))
def test_however_much_is_taken_a_new_client_finds_some(total: int, asked: list[tuple[str, int]]) -> None:
    budget = Budget(total)
    for client, size in asked:
        before = budget.reserved, budget.held_by(client)
        if budget.take(size, client):
            assert budget.held_by(client) <= TIMES_FREE * (total - budget.reserved)
        else:
            assert (budget.reserved, budget.held_by(client)) == before
        assert budget.reserved == sum(map(budget.held_by, "abcd")) <= total
    # A ninth of a ninth, and so on, by the four that hold something.
    assert budget.take(total // (TIMES_FREE + 1) ** 5, "new") or total < 10**5


async def test_who_holds_nothing_waits_for_its_turn_and_gets_it() -> None:
    budget = Budget(900_000)
    with Lease(budget, "a") as held:
        held.need(800_000)
        waiting = Lease(budget, "a")
        task = asyncio.create_task(waiting.reserve(390_000))
        await asyncio.sleep(0)
        assert not task.done()
        held.settle(50_000)
        await task
        assert (waiting.size, budget.reserved) == (390_000, 440_000)
        waiting.close()
    assert budget.reserved == 0


async def test_who_waits_too_long_is_refused_and_leaves_nothing_behind() -> None:
    budget = Budget(900, wait_seconds=0.01)
    with Lease(budget, "a") as held:
        held.need(800)
        with pytest.raises(MemoryFull), Lease(budget, "a") as late:
            await late.reserve(300)
    assert budget.reserved == 0
    with Lease(budget, "a") as again:
        again.need(800)


async def test_who_leaves_while_waiting_is_given_nothing() -> None:
    budget = Budget(900)
    held = Lease(budget, "a")
    held.need(800)
    waiting = Lease(budget, "a")
    task = asyncio.create_task(waiting.reserve(300))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held.close()
    assert (waiting.size, budget.reserved) == (0, 0)


async def test_what_is_needed_besides_is_had_at_once_or_not_at_all() -> None:
    budget = Budget(900)
    with Lease(budget, "a") as one, Lease(budget, "b") as other:
        one.need(700)
        await other.reserve(10)
        other.need(5)  # it has that already
        other.need(20)
        with pytest.raises(MemoryFull):
            other.need(700)
        with pytest.raises(BodyTooLarge, match="send fewer records"):
            other.need(801)
        assert other.size == 20


async def test_a_first_guess_is_cut_so_that_the_connection_has_room_of_its_own() -> None:
    budget = Budget(900)
    with Lease(budget, "a") as connection, Lease(budget, "a") as lease:
        connection.need(100)
        await lease.reserve(10**9)
        assert lease.size == budget.most // 2


class Requests(RuleBasedStateMachine):
    """Any sequence of requests that reserve, grow, shrink and end."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(10**6)
        self.leases: list[Lease] = []

    @rule(client=st.sampled_from("abc"), size=st.integers(1, 1_200_000))
    def begin(self, client: str, size: int) -> None:
        lease = Lease(self.budget, client)
        if lease.take(size):
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), size=st.integers(1, 1_200_000))
    def settle(self, data: Any, size: int) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        before = lease.size
        try:
            lease.settle(size)
        except (MemoryFull, BodyTooLarge):
            assert lease.size == before
        else:
            assert size <= lease.size <= max(size, min(before, size + WORTH_GIVING_BACK))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def end(self, data: Any) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        self.leases.remove(lease)
        lease.close()
        lease.close()

    @invariant()
    def all_that_is_reserved_is_held_by_somebody(self) -> None:
        assert self.budget.reserved == sum(lease.size for lease in self.leases) <= self.budget.total


TestRequests = Requests.TestCase
