"""A folder of images: which of its files they are, and in which order."""

from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg")


def files(folder: Path) -> dict[str, Path]:
    """Every PNG and JPEG file below a folder.

    Args:
        folder: Searched with all its sub-folders but hidden ones, which some program keeps for itself (as
            `.ipynb_checkpoints`).

    Returns:
        By the path below the folder, with `/`, in the order of these.

    Raises:
        ValueError: There is none, or the name of one is no text.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    visible = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    named = {path.relative_to(folder).as_posix(): path for path in visible}
    if not named:
        raise ValueError(f"{folder}: holds no file that ends in {', '.join(SUFFIXES)}")
    if strange := [name for name in named if name != name.encode(errors="replace").decode()]:
        raise ValueError(f"{folder}: the file name {strange[0]!r} is no text in UTF-8; rename it")
    return named
