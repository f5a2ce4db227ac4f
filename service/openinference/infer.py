"""`POST /v2/models/NAME/infer`: tensors to scores, over the same batcher as `POST /score`."""

import asyncio
import time
from collections.abc import Callable

from bundle.fields import Tensors
from bundle.manifest import Manifest
from service.asgi import Headers, Send, respond
from service.decoding import takes_long
from service.metrics import Metrics
from service.openinference import coding, outputs, request
from service.openinference.coding import Coding
from service.openinference.outputs import InferAnswer
from service.openinference.request import InferRequest
from service.openinference.statistics import InferStatistics
from service.score import THREAD_RECORDS
from service.served_model import ServedModel
from service.settings import Settings
from service.stages import Stages


class Inference:
    """Answers requests to `infer`.

    Args:
        settings: Most records in a request.
        metrics: Where the stages are timed.
        statistics: Where the requests are counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics, statistics: InferStatistics) -> None:
        self._settings = settings
        self._statistics = statistics
        self._stages = Stages(metrics)

    async def read(self, model: ServedModel, headers: Headers, body: bytes) -> tuple[InferRequest, float]:
        """What a body asks for, and how many seconds it took to tell.

        Args:
            model: Which is asked.
            headers: The request's.
            body: Inflated.

        Raises:
            ServiceError: It does not fit.
        """
        started = time.perf_counter()
        length, limit = headers.get(request.HEADER_LENGTH), model.largest_request
        try:
            if takes_long(model.schema, len(body)):
                asked = await asyncio.to_thread(request.decode, body, length, model.manifest, limit)
            else:
                asked = request.decode(body, length, model.manifest, limit)
        except Exception:
            self._statistics.failed(model, time.perf_counter() - started)
            raise
        return asked, self._stages.decoded(started)

    def reader(self, headers: Headers, body: bytes) -> Callable[[Manifest], InferRequest]:
        """What reads a body as the fields of any manifest; see `read`."""
        length, limit = headers.get(request.HEADER_LENGTH), self._settings.max_records
        return lambda manifest: request.decode(body, length, manifest, limit)

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
            answer, content = await asyncio.to_thread(_write, *writing) if heavy else _write(*writing)
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
