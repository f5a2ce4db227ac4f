"""Object storage on this machine: moto's S3 behind a door that can refuse requests."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.fs
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

KEY, SECRET = "AKIANAMEOFKEY", "WordThatNobodyMaySee"
BUCKET = "bucket"


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    query: str
    range: str | None


class Storage:
    """The storage, as a WSGI application.

    Args:
        app: Answers what is not refused.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self.port = 0
        self.asked: list[Asked] = []
        self.refuses: Callable[[Asked], int | None] = lambda asked: None
        """The status with which a request is refused, if it is."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        asked = Asked(
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"],
            environ.get("QUERY_STRING", ""),
            environ.get("HTTP_RANGE"),
        )
        self.asked.append(asked)
        status = self.refuses(asked)
        if status is None:
            return self._app(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(f"{status} refused", [("Content-Length", "0")])
        return [b""]

    def uri(self, path: str, *, port: int | None = None) -> str:
        """The URI of a folder or file, with the credentials in it."""
        settings = f"scheme=http&endpoint_override=127.0.0.1:{port or self.port}&region=us-east-1"
        return f"s3://{KEY}:{SECRET}@{path}?{settings}"

    @property
    def files(self) -> Any:
        """The file system, for tests to look at."""
        return pyarrow.fs.S3FileSystem(
            access_key=KEY,
            secret_key=SECRET,
            region="us-east-1",
            scheme="http",
            endpoint_override=f"127.0.0.1:{self.port}",
            allow_bucket_creation=True,
        )

    def put(self, folder: Path, path: str) -> None:
        """Copy a folder into the bucket."""
        for file in sorted(each for each in folder.rglob("*") if each.is_file()):
            with self.files.open_output_stream(f"{BUCKET}/{path}/{file.relative_to(folder)}") as stream:
                stream.write(file.read_bytes())

    def contents(self, path: str) -> dict[str, bytes]:
        """All objects below a folder of the bucket, by their paths."""
        selector = pyarrow.fs.FileSelector(f"{BUCKET}/{path}", allow_not_found=True, recursive=True)
        found = {}
        for each in self.files.get_file_info(selector):
            if each.is_file:
                with self.files.open_input_stream(each.path) as stream:
                    found[each.path.removeprefix(f"{BUCKET}/{path}/")] = stream.read()
        return found


@contextmanager
def served() -> Iterator[Storage]:
    """The storage, with an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    storage = Storage(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, storage, threaded=True)
    storage.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    storage.files.create_dir(BUCKET)
    yield storage
    server.shutdown()
    thread.join()
