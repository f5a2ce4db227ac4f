"""A folder of images: which of its files they are, and in which order."""

import os
from collections import Counter
from pathlib import Path

FILE = "file"
"""The column of a table that names each one."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp")
_MASKS = ("ground_truth", "masks")
"""Folders that hold, by custom, where in an image its defect lies, and no image of their own."""


def files(folder: Path) -> dict[str, Path]:
    """Every image file below a folder.

    Args:
        folder: Searched with all its sub-folders, those behind links included, but hidden ones, which some program
            keeps for itself (as `.ipynb_checkpoints`), and masks (`ground_truth`, `masks`).

    Returns:
        By the path below the folder, with `/`; folder by folder and in each by name.

    Raises:
        ValueError: There is none, or the name of one is no text.
        OSError: A sub-folder cannot be read.
    """
    found = sorted(path for path in _below(folder) if _is_image(path) and not _is_mask(path, folder))
    named = {path.relative_to(folder).as_posix(): path for path in found}
    if not named:
        raise ValueError(f"{folder}: holds no file that ends in {', '.join(SUFFIXES)}")
    if strange := [name for name in named if name != name.encode(errors="replace").decode()]:
        raise ValueError(f"{folder}: the file name {strange[0]!r} is no text in UTF-8; rename it")
    return named


def holds_images(folder: Path) -> bool:
    """Whether any file below a folder is an image.

    Raises:
        OSError: A sub-folder cannot be read.
    """
    return any(map(_is_image, _below(folder)))


def passed_over(folder: Path) -> str | None:
    """Which files below a folder of images are none, counted by their endings, in words; None if there are none.

    Raises:
        OSError: A sub-folder cannot be read.
    """
    endings: Counter[str] = Counter()
    for path in _below(folder):
        if not _is_image(path):
            endings[path.suffix.lower() or "no ending"] += 1
        elif _is_mask(path, folder):
            endings["masks"] += 1
    if not endings:
        return None
    counted = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
    return f"{endings.total()} other {'file' if endings.total() == 1 else 'files'} passed over ({counted})"


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _is_mask(path: Path, folder: Path) -> bool:
    return any(part.lower() in _MASKS for part in path.relative_to(folder).parts[:-1])


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
