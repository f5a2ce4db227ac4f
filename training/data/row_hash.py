"""A keyed hash of each row: which rows are held out or sampled, whatever the blocks and processes that read them."""

import hashlib

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def key(seed: int, file: str) -> int:
    """The key of a file's rows, 64 bits: the first eight bytes of the BLAKE2b digest of seed and name.

    Args:
        seed: Of the run.
        file: The file's name, below the folder that is read.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{file}".encode(), digest_size=8).digest(), "little")


def hashes(key: int, first: int, rows: int) -> Hashes:
    """The hashes of consecutive rows of a file: SplitMix64 from the key on, the row's number its counter.

    Within a file no two rows have the same hash, because the mix is a bijection. Of rows of different files two have
    with a probability of n^2 / 2^65, 2e-4 of a hundred million rows.

    Args:
        key: Of the file.
        first: Number of the first row in its file, from 0.
        rows: How many.

    Returns:
        (rows,) uint64, uniform.

    Reference:
        Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", figure 16; constants of its mix from
        Stafford's "Better bit mixing", variant 13.
    """
    mixed = (np.arange(first, first + rows, dtype=np.uint64) + np.uint64(1)) * _STEP + np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    found: Hashes = mixed ^ (mixed >> np.uint64(31))
    return found
