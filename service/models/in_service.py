"""The versions that answer, and those tried out beside them: each one that comes or goes is logged and counted."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from service.models.loading import Version
from service.models.served_model import ServedModel
from service.models.shadow import Shadow
from service.settings import Settings
from service.telemetry import logs
from service.telemetry.metrics import Metrics

log = logging.getLogger(logs.MODELS)


class InService:
    """The versions in service, one a model.

    Args:
        settings: How long a version that goes may take to answer what it has, and the deadline of requests.
        metrics: Where they are counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._models: dict[str, ServedModel] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def every(self) -> tuple[ServedModel, ...]:
        """All of them, sorted by name."""
        return tuple(self._models[name] for name in sorted(self._models))

    @property
    def only(self) -> str | None:
        """The name of the one that there is; None where there are none or several."""
        return next(iter(self._models)) if len(self._models) == 1 else None

    def __bool__(self) -> bool:
        return bool(self._models)

    def __contains__(self, name: str) -> bool:
        return name in self._models

    def get(self, name: str) -> ServedModel | None:
        """The version in service of a model; None where none is."""
        return self._models.get(name)

    def serve(self, model: ServedModel) -> None:
        """Take a version into service, in place of the one before."""
        old = self._models.get(model.name)
        self._models[model.name] = model
        self._metrics.reloads.labels(model.name, "loaded").inc()
        self._metrics.model_info.labels(*_info(model)).set(1)
        self._metrics.model_loaded.labels(model.name, str(model.version)).set(model.loaded_at)
        log.info("serving %s version %d on %s", model.name, model.version, model.scorer.provider)
        if old is not None:
            self._retire(old, self._settings.grace_seconds)

    def take_out(self, name: str) -> bool:
        """Take a model out of service; false where it was not in."""
        model = self._models.pop(name, None)
        if model is None:
            return False
        self._retire(model, self._settings.grace_seconds)
        return True

    def try_out(self, version: Version, shadow: ServedModel) -> bool:
        """Try a version out beside the one in service; false, and it is ended, where none is or it has another."""
        model = self._models.get(version.name)
        if model is None or model.shadow is not None:
            self.end(shadow)
            return False
        self._metrics.reloads.labels(version.name, "shadow loaded").inc()
        self._metrics.model_info.labels(*_info(shadow)).set(0)  # known, and not in service
        self._metrics.model_shadow.labels(version.name, str(version.number)).set(1)
        log.info("trying %s out beside version %d", version, model.version)
        model.shadow = Shadow(shadow, self._metrics, self._settings.deadline_ms / 1e3)
        return True

    def drop_shadow(self, model: ServedModel) -> None:
        """End what is tried out beside a version, if anything is."""
        self._drop_shadow(model, self._settings.grace_seconds)

    def end(self, model: ServedModel) -> None:
        """End a version that answers nobody."""
        self._finish(model.aclose(0.0))

    def await_at_the_end(self, task: asyncio.Task[None]) -> None:
        """Have `aclose` wait for what ends by itself."""
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def aclose(self, grace: float) -> None:
        """Have everything end, also what went before.

        Args:
            grace: Seconds that the versions in service may take for what they have.
        """
        for model in self.every:
            self._retire(model, grace)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _retire(self, model: ServedModel, grace: float) -> None:
        """Let a version finish what it has, and its shadow nothing."""
        self._metrics.model_info.labels(*_info(model)).set(0)
        self._drop_shadow(model, grace)
        self._finish(model.aclose(grace))

    def _drop_shadow(self, model: ServedModel, grace: float) -> None:
        shadow, model.shadow = model.shadow, None
        if shadow is not None:
            self._metrics.model_shadow.labels(model.name, str(shadow.model.version)).set(0)
            self._finish(shadow.aclose(grace))

    def _finish(self, ending: Coroutine[Any, Any, None]) -> None:
        self.await_at_the_end(asyncio.create_task(ending))


def _info(model: ServedModel) -> tuple[str, str, str, str, str]:
    digest = model.manifest.digest
    return model.name, str(model.version), digest, model.scorer.device, model.scorer.provider
