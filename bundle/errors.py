"""What can be wrong with a bundle or with the records given to it.

BundleError
├── BundleNotFound         no such model, version or folder
├── BundleRefused          a file of the bundle is not what the manifest promises
│   ├── ManifestInvalid    manifest.json is damaged or not a manifest
│   ├── SchemaTooNew       written by a later release than this one
│   ├── FileMissing        a file that the manifest lists is not there
│   ├── FileRefused        a file is no plain one, or larger than one may be
│   ├── DigestMismatch     a file's bytes are not those that were written
│   ├── OnnxNotCanonical   an ONNX file that two readers could read differently, or none
│   ├── ExternalData       an ONNX file reaches outside itself
│   ├── SignatureRefused   nobody who is trusted has signed it
│   └── GoldenMismatch     the golden records no longer score as they did at export
├── CalibrationTooSmall    too few held-out records for the false-alarm rate asked for
└── InvalidRecords         records that do not fit the bundle's fields
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_NAME = 200
"""Characters of a name that are said; no field has one of that length."""

MOST_PROBLEMS = 100
"""Problems reported at most; a client that sends a million wrong rows needs to see only the first."""


class BundleError(Exception):
    """Base of everything that `bundle` raises on purpose."""


class BundleNotFound(BundleError):
    """There is no such model, version or folder."""


class BundleRefused(BundleError):
    """A file of the bundle is not what the manifest promises.

    Args:
        file: The file's name inside the bundle's folder.
        reason: One sentence: what is wrong and what to do.
    """

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason
        self.folder: Path | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """To another process as it is, which its one argument alone could not make."""
        return type(self), (self.file, self.reason), {"folder": self.folder}

    @property
    def whole(self) -> str:
        """The same with the folder that the file stands in, where that is known."""
        return f"{self.folder}/{self}" if self.folder is not None else str(self)


class ManifestInvalid(BundleRefused):
    """`manifest.json` is damaged or is not a manifest."""


class SchemaTooNew(BundleRefused):
    """The bundle was written by a later release than this one."""


class FileMissing(BundleRefused):
    """A file that the manifest lists is not there."""


class FileRefused(BundleRefused):
    """A file is a pipe, a device or a folder, or is larger than one of its kind may be."""


class DigestMismatch(BundleRefused):
    """A file's bytes are not those that were written."""


class OnnxNotCanonical(BundleRefused):
    """An ONNX file is none, or is written in a way that two readers could read differently."""


class ExternalData(BundleRefused):
    """An ONNX file reaches outside itself, where no digest covers what is there: for tensors or for operators."""


class SignatureRefused(BundleRefused):
    """The version is not signed by anybody who is trusted."""


class GoldenMismatch(BundleRefused):
    """The golden records no longer score as they did at export."""


class CalibrationTooSmall(BundleError):
    """Too few held-out records for the false-alarm rate that was asked for."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one record; it never holds the offending value.

    Args:
        row: The record's position, from 0.
        field: The field's name, or None where the record as a whole is meant.
        detail: What is wrong and what is expected.
    """

    row: int
    field: str | None
    detail: str


def short(name: str) -> str:
    """A name as it may be said: one that is no field's has any length."""
    return name if len(name) <= _NAME else f"{name[:_NAME]}…"


class InvalidRecords(BundleError):
    """Records that do not fit the bundle's fields.

    Args:
        problems: What is wrong, in the order of the records; at least one, and not necessarily all.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        where = f"record {first.row}" + (f", field {first.field!r}" if first.field is not None else "")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{where}: {first.detail}{more}")
        self.problems = tuple(problems)
