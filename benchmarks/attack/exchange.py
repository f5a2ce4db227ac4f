"""One request and its answer, by whole messages or by the bytes of a connection."""

import contextlib
import http.client
import socket
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmarks.attack.server import HOST

NO_ANSWER = 0
"""In place of a status: the connection broke, or nothing came in time."""
TIMEOUT_SECONDS = 60.0
_GZIP, _ZLIB, _EITHER = 31, 15, 47
_TOLD = 100


@dataclass(frozen=True, repr=False)
class Request:
    """A request.

    Args:
        path: With its query.
        headers: Beside `Host` and `Content-Length`.
        body: As it is sent.
        method: Of HTTP.
    """

    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    method: str = "POST"

    def __repr__(self) -> str:
        told = f"{self.method} {self.path} {self.headers}, {len(self.body)} bytes: {self._beginning()!r}"
        return f"Request({told})"

    def _beginning(self) -> bytes:
        """The first bytes of the body, inflated where they are compressed."""
        if "Content-Encoding" not in self.headers:
            return self.body[:_TOLD]
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(_EITHER).decompress(self.body, _TOLD)
        return b"damaged"


@dataclass(frozen=True)
class Answer:
    """What came back.

    Args:
        status: Of HTTP, or `NO_ANSWER`.
        body: As it was sent.
        seconds: From the first byte sent to the last received.
    """

    status: int
    body: bytes
    seconds: float


def ask(port: int, request: Request, *, timeout: float = TIMEOUT_SECONDS, source: str | None = None) -> Answer:
    """Send a request on a connection of its own; whatever goes wrong is an answer, too.

    Args:
        port: Of the service.
        request: What is asked.
        timeout: Seconds of silence after which nothing is awaited any more.
        source: Address to ask from.
    """
    place = None if source is None else (source, 0)
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout, source_address=place)
    started = time.perf_counter()
    status, body = NO_ANSWER, b""
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        # Who refuses a body need not read it: its answer is there all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(request.method, request.path, request.body, request.headers)
        answer = connection.getresponse()
        status = answer.status
        body = answer.read()
    return Answer(status, body, time.perf_counter() - started)


def on_the_wire(request: Request, port: int, *, announced: int | None = None) -> bytes:
    """A request as its bytes; `announced` is a length that is not the body's."""
    length = len(request.body) if announced is None else announced
    headers = {"Host": f"{HOST}:{port}", "Content-Length": str(length)} | request.headers
    return _head(request, headers) + request.body


def begun(request: Request, port: int) -> bytes:
    """The head of a request whose body comes in chunks, and the first of them."""
    headers = {"Host": f"{HOST}:{port}", "Transfer-Encoding": "chunked"} | request.headers
    return _head(request, headers) + chunk(request.body)


def chunk(content: bytes) -> bytes:
    """A piece of a body without an announced length."""
    return b"%x\r\n%b\r\n" % (len(content), content) if content else b""


def connect(port: int, *, slow: bool = False) -> socket.socket:
    """A connection to the service; a slow one takes in little that it does not read."""
    client = socket.socket()
    if slow:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(TIMEOUT_SECONDS)
    client.connect((HOST, port))
    return client


def status_of(client: socket.socket) -> int:
    """The status of the answer that has begun to arrive on a connection, or `NO_ANSWER`."""
    client.settimeout(0.0)
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(client.recv(64, socket.MSG_PEEK).split()[1])
    return NO_ANSWER


def gzipped(content: bytes, *, level: int = 6) -> bytes:
    """The content as a whole gzip stream."""
    return b"".join(_deflated([content], _GZIP, level))


def deflated(content: bytes, *, level: int = 6) -> bytes:
    """The same as HTTP's deflate, which is zlib's form."""
    return b"".join(_deflated([content], _ZLIB, level))


def unfinished(content: bytes) -> bytes:
    """The beginning of a gzip stream: all of the content can be inflated, and more is to come."""
    packer = zlib.compressobj(9, zlib.DEFLATED, _GZIP)
    return packer.compress(content) + packer.flush(zlib.Z_SYNC_FLUSH)


def packed(request: Request, *, level: int = 9) -> Request:
    """The same request with its body compressed."""
    headers = {**request.headers, "Content-Encoding": "gzip"}
    return Request(request.path, headers, gzipped(request.body, level=level), request.method)


def _deflated(pieces: Iterable[bytes], form: int, level: int) -> Iterable[bytes]:
    packer = zlib.compressobj(level, zlib.DEFLATED, form)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def _head(request: Request, headers: dict[str, str]) -> bytes:
    lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()
