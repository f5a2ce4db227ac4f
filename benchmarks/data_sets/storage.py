"""A folder that counts what is asked of it, as object storage would be asked."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from reading.options import Options
from service.files.dataset import driver
from service.files.dataset.job import Done, Job, Worker
from service.files.dataset.place import Place
from service.files.dataset.plan import Plan
from service.files.dataset.shard import Shard
from service.files.dataset.source import Source
from service.files.scoring import Scoring
from service.files.selection import Selection

KEYS_A_PAGE = 1000
"""Names that a request to list gives at most in S3."""


Requests = Counter[str]
"""How often something was asked: `list`, `head`, `get`, `put`, `delete`."""


class _Folder(pyarrow.fs.FileSystemHandler):  # type: ignore[misc]
    """A folder, as pyarrow reaches it; every call that would be a request to storage is counted."""

    def __init__(self, counted: Requests) -> None:
        self._inner = pyarrow.fs.LocalFileSystem()
        self._counted = counted

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def get_type_name(self) -> str:
        return "counted"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> Any:
        self._counted["head"] += len(paths)
        return self._inner.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        found = self._inner.get_file_info(selector)
        self._counted["list"] += 1 + len(found) // KEYS_A_PAGE
        return found

    def open_input_stream(self, path: str) -> Any:
        self._counted["head"] += 1  # how large it is
        return pa.PythonFile(_Read(path, self._counted), mode="r")

    open_input_file = open_input_stream

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        self._counted["put"] += 1
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return self._inner.open_output_stream(path)

    def delete_file(self, path: str) -> None:
        self._counted["delete"] += 1
        self._inner.delete_file(path)

    def _never(self, *_: Any) -> Any:
        raise NotImplementedError("nothing of a run asks for this")

    open_append_stream = create_dir = delete_dir = delete_dir_contents = _never
    delete_root_dir_contents = move = copy_file = _never


class _Read(io.FileIO):
    """A file whose every read is a request for a range."""

    def __init__(self, path: str, counted: Requests) -> None:
        super().__init__(path)
        self._counted = counted

    def read(self, size: int | None = -1) -> bytes:
        self._counted["get"] += 1
        return super().read(-1 if size is None else size)


def counted(folder: Path) -> tuple[Place, Requests]:
    """A place that counts, and what it has counted."""
    requests = Requests()
    return Place(pyarrow.fs.PyFileSystem(_Folder(requests)), str(folder), str(folder)), requests


def requests(bundle: Path, source: Path, out: Path, files: int) -> Requests:
    """Score the first files of a data set in this process, and count what is asked of storage.

    Args:
        bundle: models/NAME/VERSION.
        source: IN.
        out: OUT.
        files: How many, a shard each.

    Returns:
        Requests of IN and OUT together.
    """
    place, of_source = counted(source)
    target, of_out = counted(out)
    found = Source(place, tuple(place.entries())[:files], Counter())
    job = Job(bundle, place, target, {}, Selection(), Options(), False, False)

    def engine(job: Job, shards: Sequence[Shard]) -> Iterator[Done]:
        return map(Worker(job).do, shards)

    driver.score(job, found, Plan({}, {}, "", {}), engine, Scoring(bundle).schema)
    return of_source + of_out
