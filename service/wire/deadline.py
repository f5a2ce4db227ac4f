"""How long a request may take."""

from service.errors import Fault, RequestInvalid
from service.settings import Settings
from service.wire.asgi import Headers


def seconds_allowed(headers: Headers, settings: Settings) -> float:
    """How long a request may take: the service's deadline, or less where `X-Deadline-Ms` says so.

    Raises:
        RequestInvalid: The header is no number of milliseconds.
    """
    wanted = headers.get(b"x-deadline-ms")
    if wanted is None:
        return settings.deadline_ms / 1e3
    if not wanted.isdigit() or len(wanted) > 9 or int(wanted) < 1:
        raise RequestInvalid([Fault("", "X-Deadline-Ms: a whole number of milliseconds is expected")])
    return min(settings.deadline_ms, int(wanted)) / 1e3
