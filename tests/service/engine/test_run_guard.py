"""Runs that do not end by themselves: they are told to, once, and the next run is none the worse."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from service.engine import run_guard
from service.engine.graph import Graph
from service.engine.run_guard import END_SECONDS, RunGuard, RunStopped, Watch
from tests.conftest import NAME
from tests.service.models import hostile_bundles

SHORT = 0.2


def changed(models: Path, change: Any) -> bytes:
    model = onnx.load(models / NAME / "1" / "scorer.onnx")
    change(model)
    content: bytes = model.SerializeToString()
    return content


@pytest.fixture(scope="module")
def noise(models: Path) -> npt.NDArray[np.float32]:
    table: npt.NDArray[np.float32] = np.load(models / NAME / "1" / "noise.npy")
    return table


def records(graph: bytes, count: int, value: float) -> dict[str, npt.NDArray[Any]]:
    kinds = {"tensor(double)": np.float64, "tensor(int8)": np.int8, "tensor(int64)": np.int64}
    inputs = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).get_inputs()
    rows = {each.name: np.zeros((count, each.shape[1]), kinds[each.type]) for each in inputs if each.name != "noise"}
    rows["numeric"][-1] = value
    return rows


@pytest.mark.parametrize("inline", [True, False], ids=["on the main thread", "on another"])
def test_a_run_that_never_ends_is_ended_and_the_next_one_runs(
    models: Path, noise: npt.NDArray[np.float32], inline: bool
) -> None:
    graph = changed(models, hostile_bundles.loops_on_one_record)
    told: list[float] = []
    watch = Watch(*((1e9, SHORT) if inline else (SHORT, 1e9)), told.append)
    scorer = Graph(graph, noise, "cpu", threads=1, watch=watch)
    failures: list[Exception] = []

    def run(value: float) -> None:
        try:
            scorer.run(records(graph, 1, value), 1)
        except RunStopped as error:
            failures.append(error)

    for value in (0.0, hostile_bundles.TRIGGER, 0.0, hostile_bundles.TRIGGER, 0.0):
        if inline:
            run(value)
        else:
            thread = threading.Thread(target=run, args=[value])
            thread.start()
            thread.join()
    assert len(failures) == len(told) == 2
    assert all(seconds > SHORT for seconds in told)


def test_of_pieces_on_several_threads_those_that_run_and_those_that_wait_end_and_it_is_said_once(
    models: Path, noise: npt.NDArray[np.float32]
) -> None:
    graph = changed(models, hostile_bundles.loops)
    told: list[float] = []
    scorer = Graph(graph, noise, "cpu", threads=3, watch=Watch(SHORT, SHORT, told.append))
    with pytest.raises(RunStopped):
        scorer.run(records(graph, 500, 0.0), 16)
    assert len(told) == 1
    scorer.close()


def test_an_error_of_the_graph_is_no_stop(models: Path, noise: npt.NDArray[np.float32]) -> None:
    graph = changed(models, lambda model: None)
    scorer = Graph(graph, noise, "cpu", threads=1, watch=Watch(60.0, 60.0))
    with pytest.raises(Exception, match="numeric") as failure:
        scorer.run({name: rows for name, rows in records(graph, 1, 0.0).items() if name != "numeric"}, 1)
    assert not isinstance(failure.value, RunStopped)


class Told:
    """A guard that nobody's thread looks after, at a time of ours, and what it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(run_guard, "monotonic", lambda: self.now)
        self.guard = RunGuard()
        monkeypatch.setattr(self.guard, "_start", lambda: None)
        self.stopped: list[float] = []
        self.stuck: list[float] = []
        self.watch = Watch(10.0, 2.0, self.stopped.append, self.stuck.append)

    def look(self, after: float, late: float = 0.0) -> None:
        self.now += after
        self.guard.look(self.now, late)


def test_a_run_is_told_to_end_after_its_bound_and_called_stuck_once_after_some_seconds_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Told(monkeypatch)
    run = told.guard.begin(told.watch)
    told.look(1.9)
    assert (told.stopped, run.options.terminate) == ([], False)
    told.look(0.2)
    assert told.stopped == [pytest.approx(2.1)]
    assert run.options.terminate is True
    told.look(END_SECONDS)
    assert told.stuck == []
    told.look(0.1)
    told.look(1.0)
    assert (len(told.stopped), len(told.stuck)) == (1, 1)


def test_a_run_of_many_pieces_may_take_long_as_long_as_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch)
    run = told.guard.begin(told.watch)
    for _ in range(10):
        told.look(1.5)
        run.touched = told.now
    assert told.stopped == []


def test_no_run_is_to_blame_for_the_time_that_the_whole_process_was_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch)
    told.guard.begin(told.watch)
    told.look(3600.0, late=3599.5)
    assert told.stopped == []
    told.look(2.0)
    assert len(told.stopped) == 1
    told.look(3600.0, late=3599.5)
    assert told.stuck == []


def test_what_nobody_waits_for_any_more_is_told_to_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch)
    run = told.guard.begin(told.watch)
    told.watch.given_up = True
    told.look(0.1)
    assert run.options.terminate


def test_a_run_that_was_told_to_end_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(monkeypatch)
    first = told.guard.begin(told.watch)
    told.guard.end(first)
    again = told.guard.begin(told.watch)
    assert again is first
    told.look(5.0)
    told.guard.end(again)
    assert not told.guard.running
    assert told.guard.begin(told.watch) is not first
