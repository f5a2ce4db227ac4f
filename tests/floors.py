"""The rooms of each package, from the top floor down: what each is, and that it knows only what stands below it."""

from typing import NamedTuple


class Room(NamedTuple):
    """A folder of a package, or a file beside the folders.

    Args:
        name: Of the folder, or of the file without its ending.
        what: What it is.
    """

    name: str
    what: str


FLOORS: dict[str, tuple[tuple[Room, ...], ...]] = {
    "bundle": (
        (Room("folder", "bundles on disk: names, versions, digests, durable writing, what is served"),),
        (Room("contents", "manifest, scores, calibration, reference, explanation, golden records"),),
        (Room("record", "fields, and how a record becomes tensors"),),
        (Room("wording", "what pydantic and the system find wrong, in our words"),),
        (Room("errors", "what can be wrong with a bundle or with records"),),
    ),
    "reading": (
        (
            Room("values", "the columns of a file as the fields of a model take them"),
            Room("likeness", "later rows of a table by what a sample of it means"),
        ),
        (
            Room("opening", "a table of records in one file or several: opened, and read some rows at a time"),
            Room("typed", "a column of a whole file by what its values mean"),
        ),
        (
            Room("parts", "which files a path means"),
            Room("numbers", "numbers as people write them"),
            Room("dates", "timestamps as people write them"),
        ),
        (Room("formats", "delimited text, NDJSON, Parquet and Arrow: taken apart, unpacked and decoded"),),
        (
            Room("options", "what a person says of a file"),
            Room("block", "some rows of a file, and where they stand"),
            Room("notes", "what is said of columns"),
            Room("memory", "how much memory there is for a process"),
        ),
        (Room("errors", "what can be wrong with a file"),),
    ),
    "training": (
        (Room("pipeline", "the whole run: prepare, fit, export, calibrate, describe, write"),),
        (Room("report", "`report.html`, and the page of `surprisal explore`"),),
        (Room("evaluation", "calibration; a bundle measured on rows that nothing was fitted on, beside baselines"),),
        (
            Room("fitting", "rows become a trained model"),
            Room("export", "a trained model becomes four graphs, each proved equal to it"),
        ),
        (
            Room(
                "modality",
                "what training needs of a table and of an image; elsewhere `match` or `isinstance` tells them apart",
            ),
        ),
        (
            Room("table", "networks, likelihoods and scores of tables alone"),
            Room("image", "networks, likelihoods and scores of images alone"),
        ),
        (
            Room("data", "a file becomes a table and its split; no torch"),
            Room("network", "the VAE, its objectives and its scores, whatever a record is"),
        ),
        (
            Room("config", "the configuration of a run"),
            Room("detectors", "coreset, neighbours, typicality, robust scale"),
        ),
        (Room("errors", "what can stop a run"),),
    ),
    "service": (
        (Room("process", "sockets, signals and workers: uvicorn with limits and a drain"),),
        (Room("front", "the application: who may enter, which protocol answers, what is documented"),),
        (
            Room("score", "`POST /score`, whole and line by line"),
            Room("openinference", "the Open Inference Protocol under `/v2`"),
        ),
        (Room("exchange", "one request for scores, from its path to its answer, whatever the protocol"),),
        (
            Room(
                "files",
                "offline scoring, a block at a time; no HTTP; in `files/dataset/` many files, a shard at a time",
            ),
        ),
        (Room("models", "bundles opened, verified, tried, served beside their shadow"),),
        (Room("codecs", "bytes to tensors and scores to bytes, a file a format"),),
        (Room("engine", "tensors and a question in, verdicts out, in batches"),),
        (Room("telemetry", "what is counted, logged and traced, right across workers"),),
        (Room("wire", "one HTTP exchange: a body in within its limits, a refusal out"),),
        (
            Room("errors", "everything that a request can be refused for"),
            Room("settings", "every setting"),
        ),
    ),
}
"""Rooms of one floor stand side by side and do not import each other."""


def table(package: str) -> str:
    """A package's rooms as a table in Markdown."""
    lines = [f"| `{package}/` | what it is |", "|---|---|"]
    for floor in FLOORS[package]:
        lines.append(f"| {', '.join(f'`{room.name}`' for room in floor)} | {'; '.join(room.what for room in floor)} |")
    return "\n".join(lines)
