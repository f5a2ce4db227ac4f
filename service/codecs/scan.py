"""What a body holds, counted in its bytes before any parser sees it: in linear time, and in next to no memory."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_PIECE = 2**16
"""Bytes that are looked at together; what a piece takes is all that a scan takes."""
_FEW = 2**12
"""Up to so many bytes `bytes.count` is the faster one."""
_WINDOW = 2**20
"""Bytes that one search goes through: it lets no other thread run meanwhile."""
_QUOTE, _BACKSLASH = 0x22, 0x5C


def count(body: bytes, wanted: bytes) -> list[int]:
    """How often each of some bytes is in a body."""
    if len(body) <= _FEW:
        return [body.count(byte) for byte in wanted]
    whole = np.frombuffer(body, np.uint8)
    totals = [0] * len(wanted)
    for start in range(0, len(whole), _PIECE):
        piece = whole[start : start + _PIECE]
        for place, byte in enumerate(wanted):
            totals[place] += int(np.count_nonzero(piece == byte))
    return totals


def width(body: bytes) -> int:
    """Most bytes that Python takes for a character of a UTF-8 text, whatever part of it: 1, 2 or 4."""
    top = int(np.frombuffer(body, np.uint8).max()) if body else 0
    if top < 0xC4:
        return 1
    return 2 if top < 0xF0 else 4


def escaped_width(body: bytes) -> int:
    """The same of the characters that JSON spells as escapes."""
    if not _holds(body, b"\\u"):
        return 1
    return 4 if _holds(body, b"\\ud") or _holds(body, b"\\uD") else 2


def outside_strings(body: bytes, wanted: bytes) -> int:
    """How many of some bytes JSON holds between its strings; what follows the first fault of the JSON says nothing."""
    table = np.zeros(256, bool)
    table[list(wanted)] = True
    total = inside = 0
    for _, piece, quotes in _quotes(body):
        before = np.searchsorted(quotes, np.flatnonzero(table[piece]))
        total += int(np.count_nonzero((before + inside) % 2 == 0))
        inside = (inside + len(quotes)) % 2
    return total


def with_null_for_nan(body: bytes) -> bytes:
    """JSON whose bare NaN, outside of strings, have become null."""
    found: list[npt.NDArray[np.int64]] = []
    inside = 0
    for start, piece, quotes in _quotes(body):
        more = np.frombuffer(body, np.uint8, min(len(piece) + 2, len(body) - start), start)
        first = np.flatnonzero((more[:-2] == ord("N")) & (more[1:-1] == ord("a")) & (more[2:] == ord("N")))
        found.append(first[(np.searchsorted(quotes, first) + inside) % 2 == 0] + start)
        inside = (inside + len(quotes)) % 2
    places = np.concatenate(found)
    text = np.frombuffer(bytearray(body), np.uint8)
    for offset, letter in enumerate(b"nul"):
        text[places + offset] = letter
    longer: bytes = np.insert(text, places + 3, ord("l")).tobytes()
    return longer


def _quotes(body: bytes) -> Iterator[tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """Where each piece begins, the piece, and where in it strings begin and end."""
    whole = np.frombuffer(body, np.uint8)
    run = 0  # of backslashes that the pieces before end in
    for start in range(0, len(whole), _PIECE):
        piece = whole[start : start + _PIECE]
        quotes = np.flatnonzero(piece == _QUOTE)
        slashes = piece == _BACKSLASH
        if run or slashes.any():
            places = np.arange(1, len(piece) + 1)
            # By place, from 1: the last that is no backslash among those up to it, 0 where all are.
            last = np.concatenate([[0], np.maximum.accumulate(np.where(slashes, 0, places))])
            runs = np.arange(len(piece) + 1) - last + np.where(last == 0, run, 0)
            quotes = quotes[runs[quotes] % 2 == 0]
            run = int(runs[-1])
        yield start, piece, quotes


def _holds(body: bytes, what: bytes) -> bool:
    windows = range(0, len(body), _WINDOW)
    return any(body.find(what, start, start + _WINDOW + len(what)) >= 0 for start in windows)
