"""A request's body: within its limits, in time, inflated."""

from service.asgi import ClientGone, Headers, Receive
from service.errors import BodyTooLarge


async def read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """Read a request's body, deciding from `Content-Length` where there is one.

    Args:
        headers: The request's.
        receive: Its ASGI channel.
        limit: Most bytes.

    Raises:
        BodyTooLarge: Over the limit; a body a little over it has been read to its end, so that the client sees the
            answer, and one far over is left to the closing of the connection.
    """
    # The parser lets any number of digits through; Python refuses to read more than some thousands.
    announced = int(headers.get(b"content-length", b"0").lstrip(b"0")[:18] or b"0")
    refused = announced > limit
    if announced > 2 * limit:
        raise BodyTooLarge(f"the body is over {limit} bytes; send fewer records at a time", close=True)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        refused = refused or size > limit
        if refused:
            chunks.clear()
        else:
            chunks.append(chunk)
        if size > 2 * limit:
            raise BodyTooLarge(f"the body is over {limit} bytes; send fewer records at a time", close=True)
        if not message.get("more_body", False):
            break
    if refused:
        raise BodyTooLarge(f"the body is over {limit} bytes; send fewer records at a time")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
