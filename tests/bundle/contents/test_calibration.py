"""Calibration: p-values and thresholds against counting by hand, and the file that holds the scores."""

import io
import math
import re
import warnings
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bundle.contents.calibration import Calibration, records_needed
from bundle.errors import CalibrationTooSmall

KEY = ("elbo", 16)
FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
FEW_VALUES = st.integers(-3, 3).map(float)  # so that ties are common
SCORES = st.lists(FINITE | FEW_VALUES, min_size=1, max_size=40)
ROUND_RATES = st.builds(lambda parts, share: (1 + share % parts) / (1 + parts), st.integers(1, 400), st.integers(0))
RATES = st.floats(1e-3, 0.999) | ROUND_RATES


def calibration(scores: list[float]) -> Calibration:
    return Calibration({KEY: np.array(scores, np.float32)})


def p_values(held_out: Calibration, values: list[float]) -> npt.NDArray[np.float64]:
    return held_out.p_values(*KEY, np.array(values, np.float32))


def clear_of_rounding(rate: float, n: int) -> bool:
    """Whether the rate is one of the p-values k / (n + 1), or not next to any of them."""
    nearest = round(rate * (n + 1)) / (n + 1)
    return rate == nearest or abs(rate - nearest) > 1e-6


@given(SCORES, SCORES)
def test_a_p_value_is_the_share_of_held_out_records_at_least_as_strange(
    scores: list[float], values: list[float]
) -> None:
    by_hand = [(1 + sum(other >= value for other in scores)) / (len(scores) + 1) for value in values]
    assert p_values(calibration(scores), values).tolist() == by_hand


@given(SCORES, SCORES)
def test_p_values_lie_in_0_to_1_and_never_rise_with_the_score(scores: list[float], values: list[float]) -> None:
    p = p_values(calibration(scores), sorted(values))
    assert p.dtype == np.float64
    assert np.all(p > 0)
    assert np.all(p <= 1)
    assert np.all(np.diff(p) <= 0)


@given(st.lists(FINITE, min_size=1, max_size=40, unique=True), st.data())
def test_the_rate_is_the_share_of_normal_records_that_is_flagged(scores: list[float], data: st.DataObject) -> None:
    """Each record in turn against the others: of n exchangeable ones, k have a p-value of at most k / n."""
    flagged = data.draw(st.integers(0, len(scores)), label="k")
    others = [scores[:i] + scores[i + 1 :] for i in range(len(scores))]
    p = [p_values(calibration(rest), [score])[0] for rest, score in zip(others, scores, strict=True)]
    assert sum(each <= flagged / len(scores) for each in p) == flagged


@given(st.permutations([1.0, 2.0, 2.0, 5.0, -1.0]))
def test_the_order_of_the_records_is_of_no_account(scores: list[float]) -> None:
    assert calibration(scores).scores(*KEY).tolist() == [-1.0, 1.0, 2.0, 2.0, 5.0]
    assert calibration(scores).records == 5


@given(SCORES, RATES, SCORES)
def test_a_record_is_above_the_threshold_exactly_when_its_p_value_is_at_most_the_rate(
    scores: list[float], rate: float, values: list[float]
) -> None:
    assume(clear_of_rounding(rate, len(scores)))
    assume(len(scores) >= records_needed(rate))
    held_out = calibration(scores)
    threshold = held_out.threshold(*KEY, rate)
    around = [threshold, float(np.nextafter(np.float32(threshold), np.float32(np.inf)))]
    every = np.array([*values, *scores, *around], np.float32)
    assert ((held_out.p_values(*KEY, every) <= rate) == (every > threshold)).all()


@pytest.mark.parametrize("n", [99, 199, 999, 1000, 4999])
def test_thresholds_hold_for_every_percentage(n: int) -> None:
    scores = np.random.default_rng(n).integers(0, 2 * n, n).astype(np.float32)
    held_out = Calibration({KEY: scores})
    p = held_out.p_values(*KEY, scores)
    for percent in range(1, 100):
        flagged = scores > held_out.threshold(*KEY, percent / 100)
        assert (flagged == (p <= percent / 100)).all(), percent


def test_a_rate_just_below_one_flags_all_but_the_least_strange() -> None:
    held_out = calibration([0.0, 1.0, 2.0, 3.0])
    assert held_out.threshold(*KEY, math.nextafter(1, 0)) == held_out.threshold(*KEY, 0.99) == 0.0


@given(RATES)
def test_the_records_needed_are_the_fewest_that_allow_such_a_p_value(rate: float) -> None:
    n = records_needed(rate)
    assume(clear_of_rounding(rate, n))
    assert 1 / (n + 1) <= rate
    assert n == 0 or 1 / n > rate


@given(RATES)
def test_one_record_too_few_is_an_error_that_names_the_number_needed(rate: float) -> None:
    n = records_needed(rate)
    calibration([0.0] * n).threshold(*KEY, rate)
    message = f"{rate:g} takes {n} calibration records; there are {n - 1}"
    with pytest.raises(CalibrationTooSmall, match=re.escape(message)):
        calibration([0.0] * (n - 1)).threshold(*KEY, rate)


@pytest.mark.parametrize(
    ("rate", "records"), [(0.5, 1), (0.1, 9), (0.05, 19), (0.01, 99), (0.001, 999), (1e-6, 999_999)]
)
def test_usual_rates_need_one_record_less_than_their_inverse(rate: float, records: int) -> None:
    assert records_needed(rate) == records


def test_rounding_never_asks_for_one_record_more() -> None:
    assert [records_needed(1 / parts) for parts in range(1, 3000)] == list(range(2999))


def test_a_score_that_was_not_calibrated_is_a_key_error() -> None:
    for key in (("iwae", 16), ("elbo", 8)):
        with pytest.raises(KeyError):
            calibration([1.0]).p_values(*key, np.zeros(1, np.float32))


def test_each_score_and_number_of_draws_has_its_own_records() -> None:
    held_out = Calibration({("elbo", 1): np.zeros(3, np.float32), ("elbo", 2): np.full(3, 9, np.float32)})
    middle = np.full(1, 5, np.float32)
    assert [held_out.p_values("elbo", draws, middle)[0] for draws in (1, 2)] == [0.25, 1.0]


KEYS = st.sets(
    st.tuples(st.sampled_from(["elbo", "expected_log_likelihood", "a-b"]), st.integers(1, 256)), min_size=1, max_size=9
)


@given(KEYS, SCORES, st.data())
def test_the_file_holds_every_score(keys: set[tuple[str, int]], first: list[float], data: st.DataObject) -> None:
    scores = {key: data.draw(st.permutations(first)) for key in keys}
    original = Calibration({key: np.array(values, np.float32) for key, values in scores.items()})
    read = Calibration.from_bytes(original.to_bytes(), keys, len(first))
    for key, values in scores.items():
        assert read.scores(*key).dtype == np.float32
        assert read.scores(*key).tolist() == np.sort(np.array(values, np.float32)).tolist()
    for wrong, records in (({*keys, ("iwae", 1)}, len(first)), (set(), len(first)), (keys, len(first) + 1)):
        with pytest.raises(ValueError, match=r"does not hold|is expected|something else"):
            Calibration.from_bytes(original.to_bytes(), wrong, records)


def test_nothing_in_the_file_is_ever_unpickled() -> None:
    class Trap:
        def __reduce__(self) -> tuple[type[SystemExit], tuple[str]]:
            return SystemExit, ("unpickled",)

    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **{"elbo-1": np.array([Trap()], object)})
    with pytest.raises(ValueError, match=r"is an array of \|O"):
        Calibration.from_bytes(buffer.getvalue(), [("elbo", 1)], 1)


def archive_of(values: Any, shape: tuple[int, ...] | None = None, after: bytes = b"") -> bytes:
    """An archive of the right name, whose array is as it is given; of bytes it says that they have a shape."""
    content = io.BytesIO()
    if shape is None:
        np.save(content, values)
    else:
        np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": shape})
        content.write(values)
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("elbo-16.npy", content.getvalue() + after)
    return whole.getvalue()


def not_calibrations() -> dict[str, bytes]:
    good = calibration([1.0, 2.0]).to_bytes()
    npy, unnumbered, word = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, np.zeros(3))
    np.savez(unnumbered, elbo=np.zeros(3))
    np.savez(word, allow_pickle=False, **{"elbo-sixteen": np.zeros(3)})
    packed, twice = io.BytesIO(), io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **{"elbo-16": np.zeros(2, np.float32)})
    with zipfile.ZipFile(twice, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            archive.writestr("elbo-16.npy", b"")
    damaged = bytearray(good)
    damaged[good.index(b"\x93NUMPY") + 130] ^= 1
    return {
        "nothing": b"",
        "text": b"scores",
        "cut": good[:-10],
        "cut early": good[:20],
        "damaged": bytes(damaged),
        "entries without end": good[:-22] + b"PK\x01\x02" * 1000 + good[-22:],
        "packed, so that it may inflate": packed.getvalue(),
        "one name twice": twice.getvalue(),
        "half as precise": archive_of(np.zeros(2, np.float16)),
        "of another machine's order of bytes": archive_of(np.zeros(2, ">f4")),
        "a table": archive_of(np.zeros((2, 1), np.float32)),
        "a shape that nobody could hold": archive_of(b"", (2**48,)),
        "more than the array": archive_of(np.zeros(2, np.float32), after=b"x"),
        "less than the array": archive_of(b"1234", (2,)),
        "a single array": npy.getvalue(),
        "no number of draws": unnumbered.getvalue(),
        "a word for the number of draws": word.getvalue(),
    }


@pytest.mark.parametrize("content", not_calibrations().values(), ids=not_calibrations().keys())
def test_other_files_are_refused_with_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (numpy words the message)
        Calibration.from_bytes(content, [("elbo", 16)], 2)


def test_members_that_lie_on_top_of_each_other_are_refused() -> None:
    """One stored array that many names share would be many times what the file has."""
    good = Calibration({("elbo", draws): np.zeros(1000, np.float32) for draws in (1, 2)}).to_bytes()
    first, second = (entry.header_offset for entry in zipfile.ZipFile(io.BytesIO(good)).infolist())
    shared = bytearray(good[:second] + good[good.index(b"PK\x01\x02") :])
    entry = shared.rindex(b"PK\x01\x02")
    shared[entry + 42 : entry + 46] = first.to_bytes(4, "little")
    end = shared.rindex(b"PK\x05\x06")
    shared[end + 16 : end + 20] = second.to_bytes(4, "little")
    with pytest.raises(ValueError, match=r"on top of each other|archive"):
        Calibration.from_bytes(bytes(shared), [("elbo", 1), ("elbo", 2)], 1000)
