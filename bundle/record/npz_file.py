"""NumPy's npz files of records: one array, whose first axis counts them, and maybe their labels."""

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

_NAMES = (("X", "y"), ("x_train", "y_train"))
"""Of the records and their labels; the first pair of which there are records is read."""


class NpzInvalid(ValueError):
    """A file that is no npz, is damaged, or lacks what is looked for; says what is expected."""


def read(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Read the records whole.

    Args:
        path: The file.

    Returns:
        `X` (n, …) and `y` (n,), the latter None where there is none; else `x_train` and `y_train`. Numbers are in this
        machine's order of bytes, and none has more than 64 bits.

    Raises:
        NpzInvalid: Not such a file, damaged, without records, or with labels of another length.
        OSError: It cannot be read.
    """
    try:
        # By the handle, so that a damaged file is closed, too.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise NpzInvalid(
                    f"{path}: holds one array without a name; np.savez(path, X=…, y=…) writes what is expected"
                )
            there = [pair for pair in _NAMES if pair[0] in archive.files]
            if not there:
                raise NpzInvalid(
                    f"{path}: has no array X, but {', '.join(archive.files) or 'none at all'}; "
                    "numpy.savez(FILE, X=ARRAY) writes one"
                )
            records_name, label_name = there[0]
            records = _array(path, archive, records_name)
            label = _array(path, archive, label_name) if label_name in archive.files else None
    except NpzInvalid:
        raise
    except MemoryError as error:
        raise NpzInvalid(f"{path}: is larger than the memory") from error
    # What NumPy, zipfile and zlib raise of damaged, packed or encrypted content.
    except (BadZipFile, zlib.error, ValueError, EOFError, KeyError, OverflowError, RuntimeError) as error:
        raise NpzInvalid(
            f"{path}: is damaged, or no npz of plain arrays; numpy.savez(FILE, X=ARRAY) writes one"
        ) from error
    if label is not None and label.shape != records.shape[:1]:
        raise NpzInvalid(f"{path}: {label_name} has the shape {label.shape}; {records.shape[:1]} is expected")
    return records, label


def columns(records: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """A table of numbers (n, d) as its columns (n,), which are named `x0`, `x1`, …."""
    return {f"x{column}": np.ascontiguousarray(records[:, column]) for column in range(records.shape[1])}


def _array(path: Path, archive: Any, name: str) -> npt.NDArray[Any]:
    array = archive[name]
    # Of a member that is no array NumPy gives the bytes.
    if not isinstance(array, np.ndarray):
        raise NpzInvalid(f"{path}: {name} is no array")
    if array.dtype.kind not in "fiu":
        return array
    return array.astype("f8" if array.dtype.itemsize > 8 else array.dtype.newbyteorder("="), copy=False)
