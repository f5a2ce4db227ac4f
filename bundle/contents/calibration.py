"""Calibration: from an anomaly score to the share of normal records at least as strange."""

import io
import math
import zipfile
from collections.abc import Collection, Mapping
from decimal import ROUND_CEILING, Context, Decimal

import numpy as np
import numpy.typing as npt

from bundle.contents import npy
from bundle.errors import CalibrationTooSmall

FILE_NAME = "calibration.npz"
SMALLEST_RATE = 1e-6
"""A lower false-alarm rate would take over a million calibration records."""
_ENTRY, _LOOK_ALIKES = b"PK\x01\x02", 64
_ROUNDING = 1e-9
"""By which a rate times a number of records may miss the whole number that is meant."""


def records_needed(false_alarm_rate: float) -> int:
    """The fewest calibration records n with which a p-value can be as low as the rate: 1 / (n + 1) <= rate.

    >>> records_needed(0.01)
    99
    """
    return math.ceil(1 / false_alarm_rate - _ROUNDING) - 1


def least_rate(records: int) -> str:
    """The lowest false-alarm rate that some calibration records allow, in three digits, of which none rounds it down.

    >>> least_rate(382)
    '0.00262'
    """
    return f"{float(Context(prec=3, rounding=ROUND_CEILING).divide(Decimal(1), Decimal(records + 1))):g}"


class Calibration:
    """Sorted anomaly scores of held-out normal records, by score and number of draws.

    The records were seen by neither the optimiser nor early stopping, so a p-value is one (split conformal,
    Vovk, Gammerman & Shafer 2005), unless the manifest's `calibration.approximate` says why it is not quite.

    Args:
        scores: (n,) float32 anomaly scores, higher = stranger, by score's name and number of draws; in any order.
    """

    def __init__(self, scores: Mapping[tuple[str, int], npt.NDArray[np.float32]]) -> None:
        self._sorted = {key: np.sort(np.asarray(values, np.float32)) for key, values in scores.items()}

    @property
    def records(self) -> int:
        """Number of calibration records, n."""
        return next(iter(self._sorted.values())).size

    def scores(self, score: str, samples: int) -> npt.NDArray[np.float32]:
        """The sorted (n,) anomaly scores of a score with a number of draws."""
        return self._sorted[score, samples]

    def p_values(self, score: str, samples: int, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Share of held-out normal records at least as strange: (1 + #{s_cal >= s}) / (n + 1).

        Args:
            score: The score's name.
            samples: Number of draws that `values` were computed with.
            values: (B,) anomaly scores, float32.

        Returns:
            (B,) float64 in (0, 1].

        Raises:
            KeyError: That score was not calibrated with that number of draws.
        """
        held_out = self._sorted[score, samples]
        p_values: npt.NDArray[np.float64] = (held_out.size + 1 - held_out.searchsorted(values)) / (held_out.size + 1.0)
        return p_values

    def threshold(self, score: str, samples: int, false_alarm_rate: float) -> float:
        """The anomaly score above which a record is an anomaly: p-value <= rate exactly when score > threshold.

        Args:
            score: The score's name.
            samples: Number of draws.
            false_alarm_rate: Share of normal records that may be flagged.

        Raises:
            CalibrationTooSmall: No p-value can be as low as the rate.
        """
        held_out = self._sorted[score, samples]
        allowed = math.floor(false_alarm_rate * (held_out.size + 1) + _ROUNDING) - 1
        if allowed < 0:
            raise CalibrationTooSmall(
                f"a false-alarm rate of {false_alarm_rate:g} takes {records_needed(false_alarm_rate)} calibration "
                f"records; there are {held_out.size}"
            )
        return float(held_out[max(0, held_out.size - 1 - allowed)])

    def to_bytes(self) -> bytes:
        """The content of `calibration.npz`: an array `SCORE-DRAWS` each."""
        buffer = io.BytesIO()
        arrays = {f"{score}-{samples}": values for (score, samples), values in self._sorted.items()}
        np.savez(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, keys: Collection[tuple[str, int]], records: int) -> "Calibration":
        """Read `calibration.npz`, whose every size is known before anything of it is read.

        Args:
            content: Its bytes.
            keys: The scores and numbers of draws that it holds, all of them and no others.
            records: How many scores of each.

        Raises:
            ValueError: Not such a file.
        """
        names = {f"{score}-{samples}.npy": (score, samples) for score, samples in keys}
        most = npy.size((records,))
        # Each entry takes a reader more memory than its bytes. A few scores may look like one.
        if content.count(_ENTRY) > len(names) + _LOOK_ALIKES:
            raise ValueError(f"it does not hold the {len(names)} arrays of scores that the manifest has")
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                members = archive.infolist()
                if sorted(member.filename for member in members) != sorted(names):
                    raise ValueError(f"it does not hold the {len(names)} arrays of scores that the manifest has")
                # Nothing in it is packed, so it cannot hold more than it has bytes.
                if any(member.compress_type != zipfile.ZIP_STORED or member.file_size > most for member in members):
                    raise ValueError(f"it holds something else than {records} scores an array, written as they are")
                if sum(member.file_size for member in members) > len(content):
                    raise ValueError("it holds arrays that lie on top of each other")
                arrays = {names[member.filename]: npy.read(archive.read(member), (records,)) for member in members}
        # What zipfile raises of damaged and encrypted content.
        except (EOFError, KeyError, NotImplementedError, OverflowError, RuntimeError, zipfile.BadZipFile) as error:
            raise ValueError(f"it is not an archive of scores: {error}") from error
        return cls(arrays)
