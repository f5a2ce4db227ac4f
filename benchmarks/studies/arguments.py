"""What every study is told: where the data are, how much to spend, and where pictures go."""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from benchmarks.serving.heading import heading


@dataclass(frozen=True)
class Arguments:
    """The command line of a study.

    Args:
        data: Folder of the public data sets.
        budget: `small` is for two cores and minutes, `full` for a GPU.
        device: Where to train: the GPU if there is one.
        seed: Of everything random.
        pictures: Folder that pictures are written to, made if need be.
        svhn: An npz of all of SVHN's test images, `x_test` (n, 32, 32, 3), for the study that has a use for it.
    """

    data: Path
    budget: Literal["small", "full"]
    device: torch.device
    seed: int
    pictures: Path
    svhn: Path | None


def parse(about: str | None, *files: str) -> Arguments:
    """Read the command line of the study that is described so and reads these files of the folder.

    Whoever names a folder without one of them is told at once, not after the first hour.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--budget", choices=("small", "full"), default="small", help="two cores, minutes; or a GPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, default=Path("studies"), help="folder for pictures")
    parser.add_argument("--svhn", type=Path, help="npz of all of SVHN's test images, in place of the folder's hundred")
    found = parser.parse_args()
    if not found.data.is_dir():
        parser.error(f"{found.data} is no folder")
    wanted = [*(found.data / name for name in files), *([found.svhn] if found.svhn else [])]
    if absent := [str(path) for path in wanted if not path.is_file()]:
        parser.error(f"there is no file {', no '.join(absent)}")
    found.pictures.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Arguments(found.data, found.budget, device, found.seed, found.pictures, found.svhn)


@contextmanager
def study(title: str) -> Iterator[None]:
    """Print machine, date and command above a study's tables, and below them the seconds that they took."""
    trained_on = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "scikit-learn"))
    print(f"# {title}\n\n{heading()}\n{versions}; trained on {trained_on}\n", flush=True)
    started = time.perf_counter()
    yield
    print(f"\n{time.perf_counter() - started:.0f} s", flush=True)
