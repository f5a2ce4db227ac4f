"""From a request to its answer, whatever the protocol: each guard stands here once.

NDJSON that is answered line by line has a way of its own, `service.score.stream`.
"""

import time

from service.codecs import footprint
from service.codecs.thread_limits import encoding_takes_long, takes_long
from service.engine.question import Question
from service.engine.verdicts import Verdicts
from service.exchange.dialect import Answer, Asked, Dialect, Spent
from service.exchange.exchange import Exchange, Resources
from service.models.served_model import ServedModel, Timing
from service.models.shadow import Body
from service.wire import client, compression
from service.wire.asgi import respond
from service.wire.compression import Coding
from service.wire.deadline import seconds_allowed
from service.wire.memory_budget import Lease


async def answer(exchange: Exchange, dialect: Dialect[Asked], resources: Resources) -> None:
    """Answer one request; every refusal is raised as a `ServiceError`.

    Args:
        exchange: The request.
        dialect: How it is read and answered.
        resources: What answers it.
    """
    headers, models = exchange.headers, resources.models
    seconds = seconds_allowed(headers, resources.settings)
    models.get(exchange.name, exchange.version).refuse_if_full()
    with Lease(resources.budget, client.CURRENT.get()) as lease:
        body = await resources.bodies.read(headers, exchange.receive, lease, seconds, dialect.becomes)
        # Asked again: by now there may be another version.
        model = models.get(exchange.name, exchange.version)
        wanted = compression.asked(headers)
        started = time.perf_counter()
        try:
            question = dialect.question(model)
            deadline = exchange.arrived + seconds
            request, decoding = await _decoded(resources, model, dialect, body, question, lease, deadline)
            # Otherwise nothing holds on to the body, which is larger than its tensors.
            again = None if model.shadow is None else _again(dialect, body, model.largest_request, question)
            kept = len(body) if again is not None or dialect.keeps_body else 0
            _settle(lease, model, dialect, request, kept, compressed=wanted is not None)
            del body
            if request.timeout is not None:
                deadline = min(deadline, exchange.arrived + request.timeout)
            verdicts, timing = await model.score(request.tensors, request.question, deadline)
            scored = time.perf_counter()
            said = await _written(resources, model, dialect, request, verdicts, wanted)
            encoding = resources.stages.encoded(scored)
        except Exception:
            dialect.failed(model, time.perf_counter() - started)
            raise
        dialect.answered(model, Spent(decoding, timing, encoding, scored + encoding - started))
        content = [(b"server-timing", _stages(timing, explained=request.question.explain)), *said.headers]
        del request, verdicts
        await respond(exchange.send, 200, said.body, said.media_type, content)
        if again is not None and model.shadow is not None:
            model.shadow.offer(again, resources.budget)


async def _decoded(
    resources: Resources,
    model: ServedModel,
    dialect: Dialect[Asked],
    body: bytes,
    question: Question,
    lease: Lease,
    deadline: float,
) -> tuple[Asked, float]:
    """What a body holds, and the seconds that took; its parser is entered only once all it may make is reserved."""
    started = time.perf_counter()
    asked = (body, model.manifest, model.largest_request)
    admission = model.admission(deadline)
    if takes_long(model.schema, len(body)):
        lease.need(len(body) + await resources.decoding.run(dialect.bound, *asked))
        request = await resources.decoding.run(dialect.decode, *asked, question, admission)
    else:
        lease.need(len(body) + dialect.bound(*asked))
        request = dialect.decode(*asked, question, admission)
    return request, resources.stages.decoded(started)


def _settle(
    lease: Lease, model: ServedModel, dialect: Dialect[Asked], request: Asked, kept: int, *, compressed: bool
) -> None:
    """Reserve what a request holds from now on: its tensors, its answer, and so many bytes of its body."""
    records, explain = request.records, request.question.explain
    if records == 1 and not explain and not kept:  # what one record takes is reserved already
        return
    said = footprint.of_answer(dialect.written, model.manifest, records, explain=explain, compressed=compressed)
    lease.settle(request.tensor_bytes + said + kept)


async def _written(
    resources: Resources,
    model: ServedModel,
    dialect: Dialect[Asked],
    request: Asked,
    verdicts: Verdicts,
    wanted: Coding | None,
) -> Answer:
    explained = verdicts.explanations is not None
    if encoding_takes_long(request.records, compressed=wanted is not None, explained=explained):
        return await resources.encoding.run(_write, model, dialect, request, verdicts, wanted)
    return _write(model, dialect, request, verdicts, wanted)


def _write(
    model: ServedModel, dialect: Dialect[Asked], request: Asked, verdicts: Verdicts, wanted: Coding | None
) -> Answer:
    said = dialect.write(model, request, verdicts)
    if wanted is None or not compression.worthwhile(said.body):
        return said
    compressed = (*said.headers, (b"content-encoding", wanted.encode()))
    return said._replace(body=compression.compress(said.body, wanted), headers=compressed)


def _stages(timing: Timing, *, explained: bool) -> bytes:
    """The value of `Server-Timing` (W3C), in milliseconds."""
    stages = f"queue;dur={timing.queue * 1e3:.3f}, infer;dur={timing.infer * 1e3:.3f}"
    return (f"{stages}, explain;dur={timing.explain * 1e3:.3f}" if explained else stages).encode()


def _again(dialect: Dialect[Asked], body: bytes, most_records: int, question: Question) -> Body:
    """What reads a body once more."""
    return Body(
        len(body),
        lambda manifest: dialect.bound(body, manifest, most_records),
        lambda manifest: dialect.decode(body, manifest, most_records, question),
    )
