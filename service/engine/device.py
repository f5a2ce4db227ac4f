"""Which device the graph runs on, as far as can be told before anything is loaded."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
CUDA_PROVIDER = "CUDAExecutionProvider"
_GPUS = (Path("/dev/nvidia0"), Path("/dev/dxg"))


class DeviceUnavailable(Exception):
    """A device was asked for that this machine or this onnxruntime does not have."""


def require(device: Device) -> None:
    """Check that a device can be had at all, before anything is loaded.

    Raises:
        DeviceUnavailable: `cuda` was asked for, and this onnxruntime has no such provider.
    """
    if device == "cuda" and CUDA_PROVIDER not in (offered := _offered()):
        raise DeviceUnavailable(no_cuda(offered))


def expects_cuda(device: Device) -> bool:
    """Whether the graph will run on a GPU, as far as can be told before it is loaded."""
    return device == "cuda" or (device == "auto" and any(map(Path.exists, _GPUS)) and CUDA_PROVIDER in _offered())


def no_cuda(offered: list[str]) -> str:
    """What to say where there is no CUDA.

    Args:
        offered: The providers that ONNX Runtime has.
    """
    return (
        f"device cuda was asked for, and ONNX Runtime cannot use it here (it offers {', '.join(offered)}); install "
        "onnxruntime-gpu in place of onnxruntime on a machine with a GPU, or ask for cpu"
    )


def _offered() -> list[str]:
    """The providers, asked for in a process of its own: who supervises workers does without ONNX Runtime's memory."""
    code = "import onnxruntime; print(*onnxruntime.get_available_providers())"
    asked = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    return asked.stdout.split()
