"""Whether several processes pay: measured on copies, and said in plain words."""

import torch

from tests.training.fitting.one_of_ranks import OBJECTIVES, fitting
from training.config import FitConfig
from training.fitting import pace
from training.fitting.ranks import ALONE


def test_measuring_leaves_a_training_as_it_was() -> None:
    trained = []
    for measured in (False, True):
        fitted = fitting(OBJECTIVES["elbo"], ALONE, FitConfig(epochs=2, batch_size=16))
        if measured:
            threads = torch.get_num_threads()
            assert " ms a step" in pace.compare(fitted)
            assert torch.get_num_threads() == threads
        fitted.run()
        trained.append(torch.cat([parameter.detach().flatten() for parameter in fitted.parameters]))
    assert trained[0].equal(trained[1])


def test_it_is_said_which_is_faster_and_by_how_much() -> None:
    assert pace.said(2, 2, 0.010, 0.004) == (
        "one process with 2 threads takes 0.4 of the time of 2 processes; leave out --processes (4.0 ms a step, "
        "2 processes 10.0 ms)"
    )
    assert pace.said(2, 0, 0.010, 0.016) == (
        "2 processes are 1.6 times as fast as one process on one GPU (16.0 ms a step, 2 processes 10.0 ms); "
        "several GPUs are experimental: nobody has trained on them yet"
    )
    assert pace.said(2, 2, 0.010, 0.0105) == (
        "2 processes are about as fast as one process with 2 threads (10.5 ms a step, 2 processes 10.0 ms)"
    )
