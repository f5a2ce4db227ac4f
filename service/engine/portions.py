"""Requests, and the pieces of them that run together; what ran is put together again."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = Mapping[str, npt.NDArray[Any]]  # arrays (n, ...); row i of a request is row i of each


@dataclass(slots=True)  # not frozen: that would double the time that one takes to make
class Answer:
    """The backend's arrays `(n, ...)` for one request, and where its time went.

    A request that was cut waited as long as its last piece, and ran as long as all its pieces together.
    """

    rows: Rows
    waited: float  # seconds in the queue
    ran: float  # seconds that the backend took for the whole batch


@dataclass(eq=False, slots=True)
class Request:
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

    rows: Rows
    size: int
    samples: int
    client: str
    arrived: float
    deadline: float
    outcome: asyncio.Future[Any]
    taken: int = 0  # rows that have joined a batch
    done: int = 0  # rows that have run
    waited: float = 0.0
    ran: float = 0.0
    parts: dict[int, Rows] | None = None  # what ran of one that was cut, by its first row


class Piece(NamedTuple):
    """Rows of a request that run together: most often all of them."""

    request: Request
    first: int
    size: int


def give(piece: Piece, rows: Rows, started: float, seconds: float) -> None:
    """Give a request what ran of it; the last piece completes its answer.

    Args:
        piece: Of the request.
        rows: What the backend gave for it.
        started: When it began to run, in seconds.
        seconds: How long its batch ran.
    """
    request, first, size = piece
    outcome = request.outcome
    if outcome.done():
        return
    if size == request.size:
        outcome.set_result(Answer(rows, started - request.arrived, seconds))
        return
    request.waited = max(request.waited, started - request.arrived)
    request.ran += seconds
    request.done += size
    request.parts = request.parts or {}
    request.parts[first] = rows
    if request.done == request.size:
        whole = joined([request.parts[first] for first in sorted(request.parts)])
        outcome.set_result(Answer(whole, request.waited, request.ran))


def rows_of(piece: Piece) -> Rows:
    """The rows themselves."""
    request, first, size = piece
    return request.rows if size == request.size else part(request.rows, first, size)


def joined(parts: list[Rows]) -> Rows:
    """Rows of one kind, one behind another."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def part(rows: Rows, first: int, size: int) -> Rows:
    """So many rows from one on."""
    return {name: array[first : first + size] for name, array in rows.items()}
