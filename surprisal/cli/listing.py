"""`surprisal models list`: every version of every model, when it was trained, how good it is, what it is used for."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from surprisal.cli.failure import CALL_WRONG, WORK_FAILED, fail

_COLUMNS = ("model", "version", "trained (UTC)", "rows", "AUROC", "MB", "used")
_PIPED_WIDTH = 160  # columns


@dataclass(frozen=True)
class _Listed:
    """One version, or what is wrong with it or with its model.

    Args:
        model: Its name.
        version: Its number; None where the whole model is at fault.
        created: When it was trained, as ISO 8601.
        rows: That it was trained on.
        auroc: Of the score that decides, against labelled anomalies; None where there were none.
        size_bytes: Of its files.
        use: What the folder says: `served`, `previous`, `shadow`, `out_of_service`; `refused` where it is to be served
            or tried out and is damaged; None where it has none.
        fault: Why it cannot be read; None where it can.
    """

    model: str
    version: int | None
    created: str | None = None
    rows: int | None = None
    auroc: float | None = None
    size_bytes: int | None = None
    use: str | None = None
    fault: str | None = None


_SHOWN = {"out_of_service": "out of service", None: ""}


def show(
    models: Annotated[Path, typer.Argument(help="The models folder.")] = Path("models"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")] = False,
) -> None:
    """List every version of every model: when it was trained, on how many rows, and what the folder uses it for.

    A service that is asked for GET /models says what answers: while a version is refused, another one does, or none.
    """
    from service.process import models_there

    if (wrong := models_there.fault(models)) is not None:
        fail(wrong, CALL_WRONG)
    found = list(_listed(models))
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=2))
    elif found:
        _print_table(models, found)
    else:
        fail(f"there is no model in {models}; make one: surprisal train FILE --out {models}", WORK_FAILED)


def _listed(root: Path) -> Iterator[_Listed]:
    from bundle.errors import BundleError
    from bundle.folder import serving, store

    for name in store.names(root):
        uses: dict[int | None, str] = {}
        try:
            now = serving.read(root / name)
            uses = {now.previous: "previous", now.shadow: "shadow"}
            uses[store.served_version(root, name)] = "served" if now.loaded else "out_of_service"
        except (BundleError, OSError) as error:
            yield _Listed(name, None, fault=str(error))
        for version in store.versions(root, name):
            yield _version(root, name, version, uses.get(version))


def _version(root: Path, name: str, version: int, use: str | None) -> _Listed:
    from bundle.errors import BundleError
    from bundle.folder import store

    try:
        loaded = store.load(root, name, version)
    except BundleError as error:
        return _Listed(name, version, use="refused" if use in ("served", "shadow") else use, fault=str(error))
    manifest = loaded.manifest
    return _Listed(
        name,
        version,
        manifest.created,
        manifest.training.rows.get("train"),
        manifest.training.metrics.get(f"{manifest.anomaly_score}_auroc"),
        len(loaded.document) + sum(map(len, loaded.files.values())),
        use,
    )


def _print_table(models: Path, found: list[_Listed]) -> None:
    table = Table(title=escape(str(models)), title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in ("version", "rows", "AUROC", "MB") else "left")
    for each in found:
        table.add_row(
            each.model,
            "" if each.version is None else str(each.version),
            "damaged" if each.fault is not None else (each.created or "").replace("T", " ").partition("+")[0],
            "" if each.rows is None else f"{each.rows:,}",
            "" if each.auroc is None else f"{each.auroc:.4f}",
            "" if each.size_bytes is None else f"{each.size_bytes / 1e6:.1f}",
            "fault" if each.fault is not None and each.version is None else _SHOWN.get(each.use, each.use),
        )
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, _PIPED_WIDTH)  # Nobody's window: a narrow one would cut figures.
    console.print(table)
    for each in found:
        if each.fault is not None:
            print(f"{each.model}{'' if each.version is None else f' version {each.version}'} is damaged: {each.fault}")
