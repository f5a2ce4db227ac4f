"""What a client asks for, whatever the format."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from bundle.record.fields import Tensors
from service.engine.question import Question

Admission: TypeAlias = Callable[[int, Question], None]
"""Told how many records ask what, before their tensors are made; raises what refuses them. Called by any thread."""


def admitted(records: int, question: Question) -> None:
    """The admission of what nobody refuses."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Records to score.

    Args:
        tensors: The records as the graph's inputs.
        question: What is asked of them.
        timeout: Seconds that the client allows in its body; None where it leaves that to its headers and the service.
    """

    tensors: Tensors
    question: Question
    timeout: float | None = None

    @property
    def records(self) -> int:
        """B."""
        return len(next(iter(self.tensors.values())))

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())
