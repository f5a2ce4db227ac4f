"""The repository index: what the models folder holds, ready or not, in Triton's JSON form."""

from typing import Any

from service.codecs import json
from service.codecs.syntax import Most
from service.errors import BodyTooLarge, Fault, RequestInvalid
from service.models.registry import Models

LARGEST_BODY = 2**16
"""Most bytes of a request for the index, or to load or unload a model."""
_MOST = Most(256, 64, "more values than a request to the repository may hold")


def ready_only(body: bytes) -> bool:
    """Whether a request for the index asks for what is ready alone.

    Args:
        body: `{"ready": true}`, or nothing.

    Raises:
        BodyMalformed: It is no JSON.
        BodyTooLarge: It is over `LARGEST_BODY`.
        TooManyRecords: It holds more than such a request can say.
        RequestInvalid: It is another.
    """
    if not body:
        return False
    content = _parsed(body)
    if not isinstance(content, dict):
        raise RequestInvalid([Fault("", 'an object is expected: {"ready": true}, or no body')])
    ready = content.get("ready")
    if ready is not None and not isinstance(ready, bool):
        raise RequestInvalid([Fault("/ready", "true or false is expected")])
    return ready is True


def refuse_parameters(body: bytes) -> None:
    """Check that a request to load or unload a model asks for nothing that is not done here.

    Args:
        body: An object whose `parameters` hold `unload_dependents` at most, which says nothing here; or nothing.

    Raises:
        BodyMalformed: It is no JSON.
        BodyTooLarge: It is over `LARGEST_BODY`.
        TooManyRecords: It holds more than such a request can say.
        RequestInvalid: It asks for more, another configuration for example.
    """
    if not body:
        return
    content = _parsed(body)
    parameters = content.get("parameters", {}) if isinstance(content, dict) else None
    if not isinstance(parameters, dict):
        raise RequestInvalid([Fault("", "an object is expected, whose parameters are one; or no body")])
    if parameters.keys() - {"unload_dependents"}:
        raise RequestInvalid([Fault("/parameters", "a model is loaded as its bundle says; leave parameters out")])


def index(models: Models, *, ready: bool) -> list[dict[str, Any]]:
    """The answer of `POST /v2/repository/index`.

    Args:
        models: What is in service, and what was refused.
        ready: Leave out what is not in service.
    """
    entries = []
    for model in models.served:
        entry = {"name": model.name, "version": str(model.version)}
        if model.healthy:
            entries.append({**entry, "state": "READY", "reason": ""})
        elif not ready:
            entries.append({**entry, "state": "UNAVAILABLE", "reason": "its batcher has died"})
    if not ready:
        # Which of its versions was refused stands in the reason, where it is known at all.
        refused = sorted(models.refused.items())
        refused += [(name, "unloaded") for name in models.unloaded]
        entries += [{"name": name, "version": "", "state": "UNAVAILABLE", "reason": why} for name, why in refused]
    return entries


def _parsed(body: bytes) -> Any:
    if len(body) > LARGEST_BODY:
        raise BodyTooLarge(f"over {LARGEST_BODY} bytes, which is the most of a request to the repository")
    return json.parse(body, _MOST)
