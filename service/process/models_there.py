"""Whether there is anything to serve, looked at before a worker is started: what is missing is said at once.

Nothing here loads what reads a bundle, and no disk that does not answer is waited for.
"""

import logging
import threading
from pathlib import Path

LOOK_SECONDS = 5.0
"""A folder that has not answered after this long may be good; the workers go on looking at it."""
_VERSION = "[1-9]*/manifest.json"

log = logging.getLogger("surprisal.supervisor")


class ModelsMissing(Exception):
    """There is no models folder at the place that is named; the message says how to make one."""


def require(folder: Path) -> None:
    """Check that there is a models folder, and warn where it is empty: models may come later.

    Args:
        folder: The models folder.

    Raises:
        ModelsMissing: It is not there, is a file, or is the folder of one model.
    """
    faults: list[str] = []
    empty: list[bool] = []

    def look() -> None:
        try:
            if (wrong := fault(folder)) is not None:
                faults.append(wrong)
            else:
                empty.append(next(folder.glob(f"*/{_VERSION}"), None) is None)
        except OSError as error:  # which may pass
            log.warning("%s: cannot be looked at: %s", folder, error.strerror)

    # Who looks at a volume that does not answer may never come back.
    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(LOOK_SECONDS)
    if faults:
        raise ModelsMissing(faults[0])
    if empty == [True]:
        log.warning(
            "there is no model in %s; the service waits for one. `surprisal train FILE --out %s` makes one from a "
            "file, `surprisal demo` from simulated payments",
            folder,
            folder,
        )


def fault(folder: Path) -> str | None:
    """What is wrong with a models folder, and what to do; None where nothing is.

    Args:
        folder: The models folder.
    """
    if folder.is_file():
        return f"{folder}: is a file; a models folder is expected. Name the folder that `surprisal train` wrote to"
    if not folder.is_dir():
        where = "" if folder.is_absolute() else f" in {Path.cwd()}"
        return (
            f"{folder}: there is no such folder{where}. Name the one that `surprisal train` wrote to, or make a "
            f"model first: surprisal train FILE --out {folder}"
        )
    for pattern, up in ((_VERSION, 1), ("manifest.json", 2)):
        if next(folder.glob(pattern), None) is not None:
            whole = folder.resolve().parents[up - 1]
            return (
                f"{folder}: is the folder of one model; all models of a folder are served. Name the folder around it: "
                f"{_short(whole)}"
            )
    return None


def _short(folder: Path) -> Path:
    """A folder as a person would name it from here."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
