"""`POST /v2/models/NAME/infer`: tensors to scores, over the same batcher as `POST /score`."""

import time

from bundle.record.fields import Tensors
from service.codecs import footprint, json
from service.codecs.thread_limits import THREAD_RECORDS, takes_long
from service.models.served_model import ServedModel
from service.models.shadow import Body
from service.openinference import coding, outputs, request
from service.openinference.coding import Coding
from service.openinference.outputs import InferAnswer
from service.openinference.request import InferRequest
from service.openinference.statistics import InferStatistics
from service.telemetry.metrics import Metrics
from service.telemetry.stages import Stages
from service.wire.asgi import Headers, Send, respond
from service.wire.budget import Lease
from service.wire.threads import Threads


class Inference:
    """Answers requests to `infer`.

    Args:
        metrics: Where the stages are timed.
        statistics: Where the requests are counted.
        decoding: Threads that large bodies are decoded on.
        encoding: Threads that large answers are written on.
    """

    def __init__(
        self,
        metrics: Metrics,
        statistics: InferStatistics,
        decoding: Threads,
        encoding: Threads,
    ) -> None:
        self._statistics = statistics
        self._decoding = decoding
        self._encoding = encoding
        self._stages = Stages(metrics)

    async def read(
        self, model: ServedModel, headers: Headers, body: bytes, lease: Lease, deadline: float
    ) -> tuple[InferRequest, float]:
        """What a body asks for, and how many seconds it took to tell.

        Its parser is entered only once all that it may make is reserved; afterwards the lease holds what is asked for,
        the body, of which that may be a view, and the answer.

        Args:
            model: Which is asked.
            headers: The request's.
            body: Inflated.
            lease: Of the request; it holds the body.
            deadline: When the answer is due, on `time.monotonic`, in seconds.

        Raises:
            ServiceError: It does not fit.
        """
        started = time.perf_counter()
        given = (body, headers.get(request.HEADER_LENGTH), model.manifest, model.largest_request)
        admission = model.admission(deadline)
        try:
            if takes_long(model.schema, len(body)):
                lease.need(len(body) + await self._decoding.run(request.bound, *given))
                asked = await self._decoding.run(request.decode, *given, admission)
            else:
                lease.need(len(body) + request.bound(*given))
                asked = request.decode(*given, admission)
            answer = footprint.of_answer(
                json.MEDIA_TYPE, model.manifest, asked.records, explain=False, compressed=b"accept-encoding" in headers
            )
            lease.settle(len(body) + asked.tensor_bytes + answer)
        except Exception:
            self._statistics.failed(model, time.perf_counter() - started)
            raise
        return asked, self._stages.decoded(started)

    def again(self, model: ServedModel, headers: Headers, body: bytes) -> Body:
        """What reads a body once more; see `read`."""
        length, limit = headers.get(request.HEADER_LENGTH), model.largest_request
        return Body(
            len(body),
            lambda manifest: request.bound(body, length, manifest, limit),
            lambda manifest: request.decode(body, length, manifest, limit),
        )

    async def __call__(
        self,
        model: ServedModel,
        headers: Headers,
        asked: InferRequest,
        decoding: float,
        arrived: float,
        deadline: float,
        send: Send,
    ) -> None:
        """Answer one request; every refusal is raised as a `ServiceError`.

        Args:
            model: Which is asked.
            headers: The request's.
            asked: What `read` gave.
            decoding: Seconds that it took.
            arrived: When the head did, on `time.monotonic`, in seconds.
            deadline: When the answer is due, on the same clock, unless the request's own `timeout` ends before.
            send: Where the answer goes.
        """
        started = time.perf_counter()
        if asked.timeout is not None:
            deadline = min(deadline, arrived + asked.timeout)
        try:
            compression = coding.asked(headers)
            verdicts, timing = await model.score(asked.tensors, asked.question, deadline)
            scored = time.perf_counter()
            writing = (model.name, model.version, asked, verdicts.columns(), compression)
            heavy = len(verdicts.p_value) > (THREAD_RECORDS // 4 if compression else THREAD_RECORDS)
            answer, content = await self._encoding.run(_write, *writing) if heavy else _write(*writing)
            encoding = self._stages.encoded(scored)
        except Exception:
            self._statistics.failed(model, decoding + time.perf_counter() - started)
            raise
        self._statistics.succeeded(model, decoding, timing, encoding, decoding + scored + encoding - started)
        stages = f"queue;dur={timing.queue * 1e3:.3f}, infer;dur={timing.infer * 1e3:.3f}"
        head = [(b"server-timing", stages.encode()), (b"vary", b"accept-encoding")]
        if answer.header_length is not None:
            head.append((request.HEADER_LENGTH, str(answer.header_length).encode()))
        if compression is not None:
            head.append((b"content-encoding", compression.encode()))
        await respond(send, 200, content, answer.media_type, head)


def _write(
    name: str, version: int, asked: InferRequest, columns: Tensors, compression: Coding | None
) -> tuple[InferAnswer, bytes]:
    answer = outputs.encode(name, version, asked.id, asked.question, columns, asked.outputs)
    return answer, answer.body if compression is None else coding.compress(answer.body, compression)
