"""A folder of images: which of its files they are, and in which order."""

import os
from pathlib import Path

FILE = "file"
"""The column of a table that names each one."""
_SUFFIXES = (".png", ".jpg", ".jpeg")


def files(folder: Path) -> dict[str, Path]:
    """Every PNG and JPEG file below a folder.

    Args:
        folder: Searched with all its sub-folders, those behind links included, but hidden ones, which some program
            keeps for itself (as `.ipynb_checkpoints`).

    Returns:
        By the path below the folder, with `/`; folder by folder and in each by name.

    Raises:
        ValueError: There is none, or the name of one is no text.
        OSError: A sub-folder cannot be read.
    """
    found = sorted(path for path in _below(folder) if path.suffix.lower() in _SUFFIXES and path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in found}
    if not named:
        raise ValueError(f"{folder}: holds no file that ends in {', '.join(_SUFFIXES)}")
    if strange := [name for name in named if name != name.encode(errors="replace").decode()]:
        raise ValueError(f"{folder}: the file name {strange[0]!r} is no text in UTF-8; rename it")
    return named


def _below(folder: Path) -> list[Path]:
    def fail(error: OSError) -> None:
        raise error

    paths: list[Path] = []
    for place, inside, names in os.walk(folder, followlinks=True, onerror=fail):
        # A link to a folder that leads to it would never end.
        above = {each.resolve() for each in (Path(place), *Path(place).parents)}
        inside[:] = [
            name
            for name in inside
            if not name.startswith(".")
            and not (Path(place, name).is_symlink() and Path(place, name).resolve() in above)
        ]
        paths += [Path(place, name) for name in names if not name.startswith(".")]
    return paths
