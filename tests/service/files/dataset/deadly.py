"""A place whose file ends the process that scores it; in a module of its own, which processes can load."""

import os
import signal

from service.files.dataset.place import Entry, Place

DEADLY = "deadly.parquet"


class DeadlyPlace(Place):
    """Ends whoever looks at the deadly file to score it."""

    def entry(self, path: str = "") -> Entry | None:
        """See `Place.entry`."""
        if path.endswith(DEADLY):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().entry(path)
