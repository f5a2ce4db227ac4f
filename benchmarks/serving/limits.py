"""What this machine can do at all in this run, without HTTP: the figures that every other one is divided by."""

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.serving.formats import json_arrays
from benchmarks.serving.model import NAME, SAMPLES, simulate
from bundle.folder import contents, store
from service.engine import cpus

BATCH = 512
WARM_UP_SECONDS = 0.5
START_SECONDS = 120.0

Turn = Callable[[], None]  # works through one batch


@dataclass(frozen=True)
class Limits:
    """Records a second on every core.

    Args:
        cores: How many.
        graph: ONNX Runtime alone, tensors to tensors.
        json: From a JSON body to a JSON body.
    """

    cores: int
    graph: float
    json: float


def graph_alone(models: Path) -> Turn:
    """ONNX Runtime as the product runs it, on all threads that its scorer takes; tensors in, tensors out."""
    from service.models.opening import open_scorer
    from service.settings import Settings

    scorer = open_scorer(store.load(models, NAME, store.served_version(models, NAME)), Settings(device="cpu"))
    tensors = {"numeric": simulate(BATCH, seed=2)}

    def turn() -> None:
        scorer.run(tensors, SAMPLES)

    return turn


def json_to_json(models: Path) -> Turn:
    """What the service itself does with a body, by its own functions: decode, score, judge, encode."""
    from service.codecs import json
    from service.engine.question import Question
    from service.engine.verdicts import judge
    from service.models.opening import open_scorer
    from service.settings import Settings

    opened = store.load(models, NAME, store.served_version(models, NAME))
    scorer, calibration, manifest = (
        open_scorer(opened, Settings(device="cpu")),
        contents.calibration(opened),
        opened.manifest,
    )
    body = json_arrays(simulate(BATCH, seed=2)).body
    question = replace(Question.usual(manifest), samples=SAMPLES)

    def turn() -> None:
        request = json.decode(body, manifest, BATCH, question)
        verdicts = judge(manifest, calibration, scorer.run(request.tensors, SAMPLES), SAMPLES)
        json.encode(NAME, opened.version, request.question, verdicts)

    return turn


def records_per_second(make: Callable[[Path], Turn], models: Path, seconds: float, processes: int = 1) -> float:
    """The rate of fresh processes together, all working over the same time.

    Args:
        make: Prepares the work, in each process.
        models: Folder of the bundle.
        seconds: How long to measure.
        processes: How many; several are pinned to a core each, so that each scores on one thread.
    """
    context = multiprocessing.get_context("spawn")
    rates: SimpleQueue[float] = context.SimpleQueue()
    together = context.Barrier(processes)
    pins: list[int | None] = [None] if processes == 1 else list(_cores()[:processes])
    workers = [context.Process(target=_measure, args=(make, models, seconds, pin, together, rates)) for pin in pins]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError("an in-process limit could not be measured; its process says why above")
    return sum(rates.get() for _ in workers)


def measure(models: Path, seconds: float) -> Limits:
    """Both limits, one after the other."""
    cores = cpus.available()
    graph = records_per_second(graph_alone, models, seconds)
    return Limits(cores, graph, records_per_second(json_to_json, models, seconds, processes=cores))


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def _measure(
    make: Callable[[Path], Turn],
    models: Path,
    seconds: float,
    pin: int | None,
    together: Barrier,
    rates: SimpleQueue[float],
) -> None:
    if pin is not None:
        os.sched_setaffinity(0, {pin})
    turn = make(models)
    _turns(turn, WARM_UP_SECONDS)
    together.wait(START_SECONDS)
    rates.put(BATCH * _turns(turn, seconds))


def _turns(turn: Turn, seconds: float) -> float:
    """Turns a second, over so many seconds."""
    started, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds:
        turn()
        done += 1
    return done / passed
