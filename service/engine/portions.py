"""Requests, and the portions of them that run together; what ran is put together again."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from bundle.record.fields import Tensors
from service.errors import ServiceError

R = TypeVar("R")
"""What a backend gives for n rows: n of something."""


@dataclass(frozen=True, slots=True)
class Results(Generic[R]):
    """How what a backend gives is cut and joined.

    Args:
        arrays: Its arrays by name, (n, ...) each.
        part: So many rows of it from one on.
        joined: Several, one behind another.
    """

    arrays: Callable[[R], Tensors]
    part: Callable[[R, int, int], R]
    joined: Callable[[list[R]], R]


@dataclass(slots=True)  # not frozen: that would double the time that one takes to make
class Outcome(Generic[R]):
    """What the backend gave for one request of n rows, and where its time went.

    A request that was cut waited as long as its last portion, and ran as long as all its portions together.
    """

    result: R
    waited: float  # seconds in the queue
    ran: float  # seconds that the backend took for the whole batch


@dataclass(eq=False, slots=True)
class Request(Generic[R]):
    """What one caller waits for.

    Args:
        rows: Arrays (n, ...).
        size: Their n.
        samples: Draws a row.
        client: Who asks.
        arrived: Time, in seconds.
        deadline: Time by which it must be answered, in seconds.
        outcome: What the caller gets.
    """

    rows: Tensors
    size: int
    samples: int
    client: str
    arrived: float
    deadline: float
    outcome: asyncio.Future[Outcome[R] | ServiceError]
    taken: int = 0  # rows that have joined a batch
    done: int = 0  # rows that have run
    waited: float = 0.0
    ran: float = 0.0
    parts: dict[int, R] | None = None  # what ran of one that was cut, by its first row


class Portion(NamedTuple, Generic[R]):
    """Rows of a request that run together: most often all of them."""

    request: Request[R]
    first: int
    size: int


def give(portion: Portion[R], result: R, started: float, seconds: float, joined: Callable[[list[R]], R]) -> None:
    """Give a request what ran of it; the last portion completes its answer.

    Args:
        portion: Of the request.
        result: What the backend gave for it.
        started: When it began to run, in seconds.
        seconds: How long its batch ran.
        joined: Joins what was given for several portions.
    """
    request, first, size = portion
    outcome = request.outcome
    if outcome.done():
        return
    if size == request.size:
        outcome.set_result(Outcome(result, started - request.arrived, seconds))
        return
    request.waited = max(request.waited, started - request.arrived)
    request.ran += seconds
    request.done += size
    request.parts = request.parts or {}
    request.parts[first] = result
    if request.done == request.size:
        whole = joined([request.parts[first] for first in sorted(request.parts)])
        outcome.set_result(Outcome(whole, request.waited, request.ran))


def rows_of(portion: Portion[R]) -> Tensors:
    """The rows themselves."""
    request, first, size = portion
    return request.rows if size == request.size else part(request.rows, first, size)


def joined(parts: list[Tensors]) -> Tensors:
    """Rows of one kind, one behind another."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def part(rows: Tensors, first: int, size: int) -> Tensors:
    """So many rows from one on."""
    return {name: array[first : first + size] for name, array in rows.items()}


def _themselves(tensors: Tensors) -> Tensors:
    return tensors


TENSORS: Results[Tensors] = Results(_themselves, part, joined)
"""Of a backend that gives arrays by name."""
