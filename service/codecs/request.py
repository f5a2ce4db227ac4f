"""What a client asks for, whatever the format."""

from dataclasses import dataclass

from bundle.fields import Tensors


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Records to score.

    Args:
        tensors: The records as the graph's inputs.
        samples: Number of draws.
    """

    tensors: Tensors
    samples: int
