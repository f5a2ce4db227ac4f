"""Whether several processes are faster than one: a few steps of either, on copies, before the training begins."""

import copy
import time

import torch

from training.fitting.fit import Fit
from training.fitting.ranks import ALONE, Ranks

_WARM_UP, _FEWEST, _MOST = 2, 5, 50
_SECONDS = 0.7
"""About so long either is measured."""
_ALIKE = 0.9
"""Not much less than one: neither is called faster."""


def compare(run: Fit) -> str:
    """Measure a step of all processes together, and one of a single process with the threads that they have together.

    Args:
        run: The training, which stays as it is; each of its processes makes this call.

    Returns:
        What to say of it.

    Raises:
        ProcessLost: Another process has ended.
    """
    ranks, threads = run.ranks, torch.get_num_threads()
    together = _copy(run, ranks)
    first = _seconds(together, _FEWEST)
    steps = max(_FEWEST, min(_MOST, round(_SECONDS / _mean(run, first))))
    shared = _mean(run, _seconds(together, steps))
    single = 0.0
    if ranks.leads:
        torch.set_num_threads(threads * ranks.count)
        try:
            single = _seconds(_copy(run, ALONE), steps)
        finally:
            torch.set_num_threads(threads)
    # The others wait here, and leave it the cores.
    single = ranks.count * _mean(run, single)
    return said(ranks.count, threads * ranks.count if run.device.type == "cpu" else 0, shared, single)


def said(count: int, threads: int, shared: float, single: float) -> str:
    """The comparison in words.

    Args:
        count: How many processes there are.
        threads: Of the one process; 0 where it trains on a GPU.
        shared: Seconds a step of all of them.
        single: Seconds a step of the one.
    """
    one = f"one process with {threads} threads" if threads else "one process on one GPU"
    took = f"({1000 * single:.1f} ms a step, {count} processes {1000 * shared:.1f} ms)"
    took += "" if threads else "; several GPUs are experimental: nobody has trained on them yet"
    if single < _ALIKE * shared:
        return f"{one} takes {single / shared:.2g} of the time of {count} processes; leave out --processes {took}"
    if shared < _ALIKE * single:
        return f"{count} processes are {single / shared:.2g} times as fast as {one} {took}"
    return f"{count} processes are about as fast as {one} {took}"


def _copy(run: Fit, ranks: Ranks) -> Fit:
    """A training of the same size that leaves nothing behind."""
    few = run.validation.records.take(torch.arange(1, device=run.validation.records.device))
    return Fit(
        copy.deepcopy(run.vae), run.train, few, run.objective.config, run.config, names=run.names, seed=0, ranks=ranks
    )


def _seconds(trial: Fit, steps: int) -> float:
    """Seconds a step."""
    trial.try_steps(_WARM_UP)
    _finish(trial)
    began = time.perf_counter()
    trial.try_steps(steps)
    _finish(trial)
    return (time.perf_counter() - began) / steps


def _finish(trial: Fit) -> None:
    if trial.device.type == "cuda":
        torch.cuda.synchronize(trial.device)


def _mean(run: Fit, seconds: float) -> float:
    """Over the processes, so that all of them take as many steps."""
    own = torch.tensor(seconds, dtype=torch.float64, device=run.device)
    return float(run.ranks.sum(own)) / run.ranks.count
