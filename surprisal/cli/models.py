"""`surprisal models`: which versions there are, which is served, and how to change that."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surprisal.cli import examples, listing
from surprisal.cli.failure import WORK_FAILED, fail

if TYPE_CHECKING:
    from service.models.signature import PublicKeys
    from service.settings import Settings

app = typer.Typer(help="List, check and choose the versions that are served.", no_args_is_help=True)

_MOST_SHOWN = 5

Model = Annotated[Path, typer.Argument(help="models/NAME.")]
Version = Annotated[Path, typer.Argument(help="models/NAME/VERSION.")]

app.command("list", epilog=examples.epilog("list"))(listing.show)


@app.command(epilog=examples.epilog("promote"))
def promote(version: Version) -> None:
    """Verify a version and serve it from now on."""
    from bundle.folder import registry

    root, name, number = _version(version)
    before = registry.promote(root, name, number)
    print(f"{name} version {number} is served" + ("" if before == number else f" in place of version {before}"))


@app.command(epilog=examples.epilog("rollback"))
def rollback(model: Model) -> None:
    """Serve again what was served before."""
    from bundle.folder import registry

    root, name = _model(model)
    print(f"{name} version {registry.rollback(root, name)} is served again")


@app.command(epilog=examples.epilog("unpin"))
def unpin(model: Model) -> None:
    """Serve the newest version, and each that is newer as soon as it comes."""
    from bundle.folder import registry

    root, name = _model(model)
    print(f"{name} version {registry.unpin(root, name)} is served, and newer ones as they come")


@app.command(epilog=examples.epilog("shadow"))
def shadow(
    version: Version, off: Annotated[bool, typer.Option("--off", help="Stop trying any version out.")] = False
) -> None:
    """Try a version out on the same records, beside the one that answers, which is pinned."""
    from bundle.folder import registry

    if off:
        root, name = _model(version.parent if version.name.isdecimal() else version)
        registry.shadow(root, name, None)
        print(f"{name} has no shadow")
    else:
        root, name, number = _version(version)
        print(f"{name} version {number} scores beside version {registry.shadow(root, name, number)}")


@app.command(epilog=examples.epilog("sign"))
def sign(
    version: Version,
    key: Annotated[
        Path, typer.Option(help="PEM file of the private key; openssl genpkey -algorithm ed25519 makes it.")
    ],
) -> None:
    """Verify a version byte by byte and vouch for it: under this name and number, and as it is now."""
    from bundle.folder import store
    from service.models import signature

    root, name, number = _version(version)
    private = signature.private_key(key)
    signature.sign(root, store.load(root, name, number), private)
    print(f"{name} version {number} is signed by {signature.fingerprint(private.public_key())}")


@app.command(epilog=examples.epilog("verify"))
def verify(
    path: Annotated[Path, typer.Argument(help="models, models/NAME or models/NAME/VERSION.")],
    key: Annotated[
        Path | None,
        typer.Option(help="PEM file of public keys of which one must have signed; by default SURPRISAL_TRUSTED_KEYS."),
    ] = None,
) -> None:
    """Compare every byte with its manifest, the golden records with what they scored at export, and who signed it."""
    from bundle.errors import BundleError
    from bundle.folder import store
    from service.models import signature

    file = key or _settings().trusted_keys
    trusted = None if file is None else signature.public_keys(file)
    if store.names(path):
        wanted = [(path, name, version) for name in store.names(path) for version in store.versions(path, name)]
    elif store.versions(path.parent, path.name):
        wanted = [(path.parent, path.name, version) for version in store.versions(path.parent, path.name)]
    else:
        wanted = [store.resolve(path)]
    refused = 0
    for root, name, version in wanted:
        try:
            signed = _verified(root, name, version, trusted)
        except BundleError as error:
            refused += 1
            print(f"{name} version {version}: {error}")
        else:
            print(f"{name} version {version}: good, {signed}")
    if refused:
        fail(f"{refused} of {len(wanted)} versions would be refused", WORK_FAILED)


@app.command(epilog=examples.epilog("prune"))
def prune(
    model: Model,
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest versions stay in any case.")] = 3,
) -> None:
    """Delete old versions; it keeps the served one, its shadow and the one that a rollback would return to."""
    from bundle.folder import registry

    root, name = _model(model)
    deleted = registry.prune(root, name, keep)
    print(f"deleted of {name}: {', '.join(map(str, deleted)) or 'nothing'}")


def _settings() -> "Settings":
    """Of the service, on the CPU."""
    from service import settings

    return settings.settings(device="cpu")


def _verified(root: Path, name: str, version: int, trusted: "PublicKeys | None") -> str:
    """Check a version as the service does before it serves it, and say by whom it is signed.

    Raises:
        BundleError: It would be refused.
    """
    from bundle.folder import store
    from service.models import signature, trial

    bundle, settings = store.load(root, name, version), _settings()
    if trusted is not None:
        signed = f"signed by {signature.verify(root, bundle, trusted)}"
    elif signature.is_signed(root, bundle):
        signed = "signed, by whom --key PUBLIC.pem tells"
    else:
        signed = "unsigned"
    # In a process of its own, with limits of time and memory: a graph may take both without end.
    asyncio.run(trial.prove_in_time(root, bundle, settings.load_seconds))
    return signed


def _model(path: Path) -> tuple[Path, str]:
    """The models folder and the name of `models/NAME`, whatever its serving.json says."""
    from bundle import wording
    from bundle.errors import BundleNotFound
    from bundle.folder import store

    folder = Path(os.path.abspath(path))  # noqa: PTH100 - unlike resolve, it keeps the name that a link was given
    if not store.versions(folder.parent, folder.name):
        meant = wording.like(folder.name, store.names(folder.parent))
        raise BundleNotFound(f"there is no model at {path}: models/NAME is expected{meant}")
    return folder.parent, folder.name


def _version(path: Path) -> tuple[Path, str, int]:
    """The models folder, the name and the version of `models/NAME/VERSION`."""
    from bundle import wording
    from bundle.errors import BundleNotFound
    from bundle.folder import store

    folder = Path(os.path.abspath(path))  # noqa: PTH100 - as above
    root, name = folder.parent.parent, folder.parent.name
    known = store.versions(root, name)
    for version in known:
        if str(version) == folder.name:
            return root, name, version
    newest = ", ".join(map(str, known[-_MOST_SHOWN:]))
    there = f"; the newest of {name} are {newest}" if known else wording.like(name, store.names(root))
    raise BundleNotFound(f"there is no version at {path}: models/NAME/VERSION is expected{there}")
