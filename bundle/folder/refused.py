"""A bundle that was refused before it was written: kept aside, where nothing serves it, for whoever looks into it."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bundle.folder import durable_file

FOLDER = ".refused"
"""Beside the versions of a model, of which it is none."""


def keep(root: Path, name: str, files: Mapping[str, bytes]) -> Path:
    """Keep what there is of a bundle in the place of the one that was refused before.

    Args:
        root: The models folder; made if need be.
        name: The model's name.
        files: Content by file name.

    Returns:
        The folder.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    (root / name).mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=root / name))
    try:
        staging.chmod(0o755)
        for file, content in files.items():
            durable_file.write(staging / file, content)
        folder = root / name / FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        return staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
