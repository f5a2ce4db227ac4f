"""The state of a run on disk between epochs, so that an interrupted one can be taken up where it was."""

import hashlib
import io
import json
import math
import pickle
import time
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from bundle.folder import durable_file
from training.config import TrainingConfig
from training.data.read import Data
from training.errors import ConfigInvalid

CHECKPOINT_SECONDS = 2.0
"""Least time between two checkpoints, so that short epochs are not spent on writing."""


class State(TypedDict):
    """Everything that decides how a run goes on.

    Args:
        model: The weights.
        best_state: The weights that were the best so far.
        optimiser: Adam's moments.
        schedule: Of the learning rate.
        generator: State of the random numbers, uint8.
        epoch: How many are finished.
        best_elbo: Of the best weights, in nats a record.
        best_bound: Of the best weights, in nats a record.
        best_epoch: After which they were measured.
        history: The members of each `Progress`.
    """

    model: dict[str, Tensor]
    best_state: dict[str, Tensor]
    optimiser: dict[str, Any]
    schedule: dict[str, Any]
    generator: Tensor
    epoch: int
    best_elbo: float
    best_bound: float
    best_epoch: int
    history: list[tuple[Any, ...]]


class _Content(State):
    fingerprint: str


class Checkpoint:
    """One run's state on disk.

    Args:
        path: The file, or None where none is kept.
        fingerprint: What the run is made from; another run's checkpoint is refused.
        others: Pattern of the files of runs of the same data and configuration, streamed or not.
    """

    def __init__(self, path: Path | None = None, fingerprint: str = "", others: str = "") -> None:
        self.path = path
        self.fingerprint = fingerprint
        self._others = others
        self._written = -math.inf

    @classmethod
    def of(cls, folder: Path | None, data: Data, config: TrainingConfig, part: str, split: str = "") -> "Checkpoint":
        """The checkpoint of a run; runs of one name may go on side by side, each with its own.

        Args:
            folder: Where it is kept, or None for nowhere.
            data: What the run is trained on.
            config: Everything that decides the result.
            part: Which of several models of the same data and configuration, in words; empty for the one that serves.
            split: Which rows of which files are held out, where the data are a sample of what the run is trained on;
                see `Streamed.split`. Empty where they are in memory.
        """
        made_from: list[object] = [data.sha256, config.model_dump(mode="json"), *([part] if part else [])]
        of_both = _digest(made_from)
        fingerprint = _digest([*made_from, split]) if split else of_both
        name = f".checkpoint-{of_both[:16]}" + (f"-{fingerprint[:16]}" if split else "")
        path = None if folder is None else folder / f"{name}.pt"
        return cls(path, fingerprint, f".checkpoint-{of_both[:16]}*.pt")

    @property
    def number(self) -> int:
        """The fingerprint's first digits, below 2^63."""
        return int(self.fingerprint[:15] or "0", 16)

    @property
    def exists(self) -> bool:
        """Whether an interrupted run has left one."""
        return self.path is not None and self.path.exists()

    @property
    def due(self) -> bool:
        """Whether it is time to write: at first, and then once the last is old enough."""
        return self.path is not None and time.monotonic() - self._written > CHECKPOINT_SECONDS

    def write(self, state: State) -> None:
        """Put a state in the place of the one before, durably; nothing where none is kept.

        Raises:
            OSError: It cannot be written.
        """
        if self.path is None:
            return
        # In memory first: torch reports a full disk as a fault of its own format.
        content = io.BytesIO()
        torch.save({"fingerprint": self.fingerprint, **state}, content)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        durable_file.replace(self.path, content.getvalue())
        self._written = time.monotonic()

    def read(self, device: torch.device) -> State:
        """The state that an interrupted run has left, on a device.

        Raises:
            ConfigInvalid: There is none, it is damaged, or it is one of other data or another configuration.
        """
        if self.path is None or not self.path.exists():
            raise ConfigInvalid(
                "there is no checkpoint of this data and configuration to resume from; "
                f"{self._way_out()}train without --resume"
            )
        try:
            content: _Content = torch.load(self.path, map_location=device, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ConfigInvalid(f"the checkpoint {self.path} is damaged; train without --resume") from error
        if content["fingerprint"] != self.fingerprint:
            raise ConfigInvalid(
                "the checkpoint was made from other data or another configuration; train without --resume"
            )
        return content

    def forget(self) -> None:
        """Remove it, once its run has ended well."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _way_out(self) -> str:
        """What to do where a run of the same data and configuration has left one in which other rows are held out."""
        if self.path is None or not self._others or not any(self.path.parent.glob(self._others)):
            return ""
        return (
            "there is one of the same data with other rows held out. --memory and --processes decide whether rows are "
            "streamed, and the names of streamed files decide which are held out: give them as before, or "
        )


def _digest(made_from: list[object]) -> str:
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
