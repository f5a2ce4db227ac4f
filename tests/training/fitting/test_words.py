"""What a run says of its end."""

from training.fitting import words
from training.fitting.progress import Progress


def epochs(best: set[int], last: int, most: int) -> list[Progress]:
    """Epochs from 1 on, of which some were the best so far."""
    return [Progress(epoch, most, -1.0, 1.0, -2.0, 1.0, epoch in best) for epoch in range(1, last + 1)]


def test_an_early_end_is_said_with_its_reason_and_the_epoch_that_is_kept() -> None:
    assert words.of_end(epochs({1, 2, 7}, last=9, most=60), patience=2) == (
        "training ends early, after epoch 9 of 60: 2 in a row were no better; the weights of epoch 7 are kept, with "
        "the best validation bound"
    )


def test_all_epochs_are_said_to_be_over() -> None:
    assert words.of_end(epochs({1, 3}, last=4, most=4), patience=20) == (
        "all 4 epochs are over; the weights of epoch 3 are kept, with the best validation bound"
    )
