"""`surprisal models`: which versions there are, which is served, and how to change that."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.failure import WORK_FAILED, fail

app = typer.Typer(help="List, check and choose the versions that are served.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="The models folder.")]
Model = Annotated[Path, typer.Argument(help="models/NAME.")]
Version = Annotated[Path, typer.Argument(help="models/NAME/VERSION.")]


@app.command("list")
def show(models: Folder = Path("models")) -> None:
    """Every version of every model, and what it is used for."""
    from bundle import serving, store
    from bundle.errors import BundleError

    table = Table("model", "version", "trained", "used", title=escape(str(models)), title_justify="left")
    for name in store.names(models):
        now = serving.read(models / name)
        served = store.served_version(models, name)
        roles = {now.previous: "before", now.shadow: "shadow", served: "served" if now.loaded else "out of service"}
        for version in store.versions(models, name):
            try:
                created = store.load(models, name, version).manifest.created
            except BundleError as error:
                created = f"damaged: {error}"
            table.add_row(name, str(version), escape(created), roles.get(version, ""))
    if not table.row_count:
        fail(f"there is no model in {models}", WORK_FAILED)
    Console(highlight=False, soft_wrap=True).print(table)


@app.command()
def promote(version: Version) -> None:
    """Verify a version and serve it from now on."""
    from bundle import registry, store

    root, name, number = store.resolve(version)
    before = registry.promote(root, name, number)
    print(f"{name} version {number} is served" + ("" if before == number else f" in place of version {before}"))


@app.command()
def rollback(model: Model) -> None:
    """Serve again what was served before."""
    from bundle import registry, store

    root, name, _ = store.resolve(model)
    print(f"{name} version {registry.rollback(root, name)} is served again")


@app.command()
def shadow(
    version: Version, off: Annotated[bool, typer.Option("--off", help="Stop trying any version out.")] = False
) -> None:
    """Try a version out on the same records, beside the one that answers."""
    from bundle import registry, store

    root, name, number = store.resolve(version)
    registry.shadow(root, name, None if off else number)
    served = store.served_version(root, name)
    print(f"{name} has no shadow" if off else f"{name} version {number} scores beside version {served}")


@app.command()
def verify(path: Annotated[Path, typer.Argument(help="models, models/NAME or models/NAME/VERSION.")]) -> None:
    """Compare every byte with its manifest, and the golden records with what they scored at export."""
    from bundle import store
    from bundle.errors import BundleError
    from service.served_model import open_calibration, open_scorer
    from service.settings import Settings

    if store.names(path):
        wanted = [(path, name, version) for name in store.names(path) for version in store.versions(path, name)]
    elif store.versions(path.parent, path.name):
        wanted = [(path.parent, path.name, version) for version in store.versions(path.parent, path.name)]
    else:
        wanted = [store.resolve(path)]
    refused = 0
    for root, name, version in wanted:
        try:
            bundle = store.load(root, name, version)
            open_calibration(bundle)
            open_scorer(bundle, Settings(device="cpu")).close()
        except BundleError as error:
            refused += 1
            print(f"{name} version {version}: {error}")
        else:
            print(f"{name} version {version}: good")
    if refused:
        fail(f"{refused} of {len(wanted)} versions would be refused", WORK_FAILED)


@app.command()
def prune(
    model: Model,
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest versions stay in any case.")] = 3,
) -> None:
    """Delete old versions; those that are served, tried out or to be rolled back to stay."""
    from bundle import registry, store

    root, name, _ = store.resolve(model)
    deleted = registry.prune(root, name, keep)
    print(f"deleted of {name}: {', '.join(map(str, deleted)) or 'nothing'}")
