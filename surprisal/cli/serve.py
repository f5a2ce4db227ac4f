"""`surprisal serve`: answer POST /score over HTTP."""

import errno
import socket
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bundle import wording
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
    from service.engine.device import DeviceUnavailable
    from service.process import start
    from service.process.models_there import ModelsMissing
    from service.settings import settings as settings_of

    flags: dict[str, Any] = {"models": models, "host": host, "port": port, "workers": workers, "device": device}
    settings = settings_of(**flags)
    if settings.trusted_keys is not None:
        # Here alone, because it loads NumPy, which takes as long as all else that this process loads.
        from service.models import signature

        signature.public_keys(settings.trusted_keys)  # Now, rather than as a refusal of every version.
    try:
        code = start.run(settings)
    except ModelsMissing as error:
        fail(error, CALL_WRONG)
    except (DeviceUnavailable, start.CertificateUnusable) as error:
        fail(error, WORK_FAILED)
    except OSError as error:
        # Only the port for operators is named by its error.
        way = "SURPRISAL_OPS_PORT" if error.filename else "--port"
        fail(f"{error.filename or f'{settings.host}:{settings.port}'}: {_unheard(error, way)}", WORK_FAILED)
    raise SystemExit(code)


def _unheard(error: OSError, way: str) -> str:
    """Why an address cannot be listened on, and the setting that takes another port."""
    if isinstance(error, socket.gaierror):
        return "nobody knows this name; take another with --host"
    if error.errno == errno.EADDRINUSE:
        return f"another program listens there already; end it, or take another port with {way}"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; take another with --host"
    return wording.of_system(error)
