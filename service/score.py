"""`POST /score`: bytes to tensors, tensors to scores, scores to bytes; no framework in between."""

import asyncio
import time
from urllib.parse import parse_qs

from bundle.manifest import Manifest
from service import negotiation
from service.asgi import Headers, Receive, Scope, Send, respond
from service.body import read_body
from service.errors import BodyTooSlow, Fault, RequestInvalid
from service.metrics import Metrics
from service.models import Models
from service.settings import Settings


class ScoreEndpoint:
    """Answers a request for scores in the format that the client speaks.

    Args:
        models: What is in service.
        settings: Limits and the default deadline.
        metrics: Where the stages are timed.
    """

    def __init__(self, models: Models, settings: Settings, metrics: Metrics) -> None:
        self._models = models
        self._settings = settings
        self._decode = metrics.stage.labels("decode")
        self._encode = metrics.stage.labels("encode")

    async def __call__(
        self, scope: Scope, headers: Headers, receive: Receive, send: Send, name: str | None, version: str | None
    ) -> None:
        """Answer one request; every refusal is raised as a `ServiceError`.

        Args:
            scope: The request's.
            headers: Its headers, by lower-case name.
            receive: Where its body comes from.
            send: Where the answer goes.
            name: The model that the path names, or None for the default.
            version: The version that it names, or None for the one in service.
        """
        deadline = time.monotonic() + seconds_allowed(headers, self._settings)
        decoder = negotiation.decoder(headers)
        encoder = negotiation.encoder(headers, decoder)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                body = await read_body(headers, receive, self._settings.max_body_bytes)
        except TimeoutError:
            raise BodyTooSlow("the body did not arrive within the deadline", close=True) from None
        model = self._models.get(name, version)
        started = time.perf_counter()
        samples = samples_asked(scope["query_string"], model.manifest)
        request = decoder.decode(body, model.manifest, self._settings.max_records, samples)
        self._decode.observe(time.perf_counter() - started)
        verdicts, timing = await model.score(request.tensors, request.samples, deadline)
        started = time.perf_counter()
        answer = encoder.encode(model.name, model.version, request.samples, verdicts)
        self._encode.observe(time.perf_counter() - started)
        stages = f"queue;dur={timing.queue * 1e3:.3f}, infer;dur={timing.infer * 1e3:.3f}"
        media_type = encoder.MEDIA_TYPE.encode()
        await respond(send, 200, answer, media_type, [(b"server-timing", stages.encode())])


def seconds_allowed(headers: Headers, settings: Settings) -> float:
    """How long a request may take: the service's deadline, or less where `X-Deadline-Ms` says so.

    Raises:
        RequestInvalid: The header is no number of milliseconds.
    """
    wanted = headers.get(b"x-deadline-ms")
    if wanted is None:
        return settings.deadline_ms / 1e3
    if not wanted.isdigit() or len(wanted) > 9 or int(wanted) < 1:
        raise RequestInvalid([Fault("", "X-Deadline-Ms: a whole number of milliseconds is expected")])
    return min(settings.deadline_ms, int(wanted)) / 1e3


def samples_asked(query: bytes, manifest: Manifest) -> int:
    """The number of draws that a query string asks for, or the bundle's own.

    Raises:
        RequestInvalid: An unknown parameter, or a number that is not calibrated.
    """
    if not query:
        return manifest.samples
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    faults = [Fault("", "the query string takes samples alone") for name in given if name != "samples"][:1]
    text = given.get("samples", [str(manifest.samples)])[-1]
    if text not in map(str, manifest.sample_counts):
        faults.append(Fault("", f"samples: one of {', '.join(map(str, manifest.sample_counts))} is expected"))
    if faults:
        raise RequestInvalid(faults)
    return int(text)
