"""`models/<name>/serving.json`: which version of a model is served, and which is tried out beside it."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bundle import wording
from bundle.errors import ManifestInvalid
from bundle.folder import durable_file, small_file

FILE_NAME = "serving.json"


class Serving(BaseModel):
    """What is to be served of one model; without the file, the newest version.

    Args:
        version: The version that answers; None means the newest.
        previous: The one that did before, to which a rollback returns.
        shadow: A version that scores the same records and answers nobody.
        loaded: False while the model is out of service.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: int | None = Field(default=None, ge=1)
    previous: int | None = Field(default=None, ge=1)
    shadow: int | None = Field(default=None, ge=1)
    loaded: bool = True


def read(folder: Path) -> Serving:
    """What a model's folder says.

    Args:
        folder: `models/<name>`.

    Raises:
        ManifestInvalid: The file is not what it should be.
        OSError: It cannot be read.
    """
    try:
        content = small_file.read(folder / FILE_NAME)
    except FileNotFoundError:
        return Serving()
    try:
        return Serving.model_validate_json(content)
    except ValidationError as error:
        place, fault = wording.faults(error, Serving)[0]
        detail = f"{'.'.join(map(str, place))}: {fault}" if place else fault
        refused = ManifestInvalid(FILE_NAME, f'is not {{"version": N}}: {detail}; `surprisal models promote` writes it')
        refused.folder = folder
        raise refused from error


def write(folder: Path, serving: Serving) -> None:
    """Replace the file, whole or not at all.

    Args:
        folder: `models/<name>`.
        serving: What it is to say.

    Raises:
        OSError: The folder cannot be written.
    """
    durable_file.replace(folder / FILE_NAME, serving.model_dump_json(exclude_defaults=True).encode() + b"\n")
