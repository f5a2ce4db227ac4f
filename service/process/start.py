"""The start of the service: what would fail later fails here, with one clear error; then a supervisor has its workers.

Nothing here loads what scores: it is the supervisor's process.
"""

import logging
import os
import resource
import ssl

from service.engine import cpus, device
from service.process import models_there, supervisor
from service.settings import Settings, unknown
from service.telemetry import logs

log = logging.getLogger("surprisal.supervisor")

_UNUSABLE = {
    "KEY_VALUES_MISMATCH": "the key is not that of the certificate",
    "EE_KEY_TOO_SMALL": "the key is too short",
    "CA_MD_TOO_WEAK": "the certificate is signed by too weak a digest",
}


class CertificateUnusable(Exception):
    """The certificate or its key cannot be used; the message names both."""


def run(settings: Settings) -> int:
    """Serve until a signal ends it, with as many workers as the settings or the processors say.

    Args:
        settings: Of the service.

    Returns:
        The exit code: 0, or 1 where the log says what failed.

    Raises:
        ModelsMissing: There is no models folder.
        DeviceUnavailable: The device asked for cannot be had.
        CertificateUnusable: The certificate and its key are not what they should be.
        OSError: The address cannot be listened on.
    """
    device.require(settings.device)
    _require_certificate(settings)
    _allow_open_files()
    # A GPU is kept busy by one worker, and each would hold its own copy of every model.
    workers = settings.workers or (1 if device.expects_cuda(settings.device) else cpus.available())
    logs.configure(settings.log_level, settings.log_format)
    for fault in unknown(os.environ):
        log.warning(fault)
    models_there.require(settings.models)
    return supervisor.run(settings, workers)


def _require_certificate(settings: Settings) -> None:
    if settings.tls_certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:  # ssl's own among them
        reason = _UNUSABLE.get(getattr(error, "reason", None) or "", "they are no PEM, or the key has a password")
        raise CertificateUnusable(
            f"{settings.tls_certificate} and {settings.tls_key} cannot be used: {reason}; a certificate chain and its "
            "private key are expected, each in a PEM file"
        ) from error


def _allow_open_files() -> None:
    """As many as may be: a connection is one, and the usual limit allows a thousand."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
