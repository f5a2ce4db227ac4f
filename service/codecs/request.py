"""What a client asks for, whatever the format."""

from dataclasses import dataclass

from bundle.fields import Tensors
from service.question import Question


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Records to score.

    Args:
        tensors: The records as the graph's inputs.
        question: What is asked of them.
    """

    tensors: Tensors
    question: Question

    @property
    def records(self) -> int:
        """B."""
        return len(next(iter(self.tensors.values())))

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())
