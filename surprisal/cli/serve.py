"""`surprisal serve`: answer POST /score over HTTP."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from surprisal.cli.failure import CALL_WRONG, WORK_FAILED, fail


def serve(
    models: Annotated[Path | None, typer.Option(help="Folder of the bundles; by default models.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; by default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; by default 8000.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that answer; by default one for each processor of the quota.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None, typer.Option(help="Where the graph runs; by default auto.")
    ] = None,
) -> None:
    """Serve every model of a folder; SURPRISAL_* variables set the rest, a flag wins."""
    from pydantic import ValidationError

    from service.engine.device import DeviceUnavailable
    from service.models import signature
    from service.process import start
    from service.process.models_there import ModelsMissing
    from service.settings import Settings

    flags: dict[str, Any] = {"models": models, "host": host, "port": port, "workers": workers, "device": device}
    try:
        settings = Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        given = {name for name, value in flags.items() if value is not None}
        wrong = [": ".join([*(_place(part, given) for part in each["loc"]), each["msg"]]) for each in error.errors()]
        fail("; ".join(wrong), CALL_WRONG)
    if settings.trusted_keys is not None:
        signature.public_keys(settings.trusted_keys)  # Now, rather than as a refusal of every version.
    try:
        code = start.run(settings)
    except ModelsMissing as error:
        fail(error, CALL_WRONG)
    except (DeviceUnavailable, start.CertificateUnusable) as error:
        fail(error, WORK_FAILED)
    except OSError as error:
        address = error.filename or f"{settings.host}:{settings.port}"
        fail(f"{address}: {(error.strerror or str(error)).lower()}", WORK_FAILED)
    raise SystemExit(code)


def _place(setting: int | str, given: set[str]) -> str:
    if setting in given:
        return f"--{setting}"
    # A setting that goes by another name is already named by it.
    return str(setting) if str(setting).isupper() else f"SURPRISAL_{str(setting).upper()}"
