"""The models in service: found in the models folder, verified, warmed up, swapped without a lost request."""

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from bundle import registry, serving, store
from bundle.errors import BundleError, BundleNotFound
from bundle.serving import Serving
from service.errors import ModelNotFound, ModelRefused, ModelsNotWritable, NotReady
from service.metrics import Metrics
from service.served_model import ServedModel, load
from service.settings import Settings
from service.shadow import Shadow

POLL_SECONDS = 1.0
"""The models folder is looked at this often; file notifications fail on shared volumes."""

log = logging.getLogger("surprisal.models")


class Models:
    """Every model in service, by name.

    Args:
        settings: Where they are, and the limits.
        metrics: Where loads are counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._served: dict[str, ServedModel] = {}
        self._refused: dict[str, tuple[object, str]] = {}
        self._unloaded: set[str] = set()
        self._refused_shadows: dict[str, tuple[object, str]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._refreshing = asyncio.Lock()
        self.draining = False

    @property
    def served(self) -> tuple[ServedModel, ...]:
        """The models in service, sorted by name."""
        return tuple(self._served[name] for name in sorted(self._served))

    @property
    def refused(self) -> dict[str, str]:
        """Why the version that should be served is not, by model's name."""
        return {name: reason for name, (_, reason) in self._refused.items()}

    @property
    def unloaded(self) -> tuple[str, ...]:
        """Models that are there and were taken out of service, sorted by name."""
        return tuple(sorted(self._unloaded))

    def not_ready(self) -> str | None:
        """Why the service should get no traffic, or None."""
        if self.draining:
            return "the service is shutting down"
        if broken := [model.name for model in self.served if not model.healthy]:
            return f"the batcher of {', '.join(broken)} has died"
        if not self._served:
            reasons = [f"{name}: {reason}" for name, reason in self.refused.items()]
            reasons += [f"{name} was taken out of service" for name in self.unloaded]
            return "; ".join(reasons) or f"there is no model in {self._settings.models}"
        return None

    def get(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """The model that a route names.

        Args:
            name: The model; None means the default.
            version: A version; None means the one in service.

        Raises:
            ModelNotFound: No such model or version in service, or no default among several.
            NotReady: There is no model at all yet.
        """
        if name is None:
            name = self._settings.default_model or (next(iter(self._served)) if len(self._served) == 1 else None)
        if not self._served:
            raise NotReady(self.not_ready() or "no model is loaded")
        model = None if name is None else self._served.get(name)
        if model is None:
            known = ", ".join(sorted(self._served))
            if name is None:
                raise ModelNotFound(f"there are several models; name one: POST /models/NAME/score with one of {known}")
            raise ModelNotFound(f"there is no such model in service; there are {known}")
        if version is not None and version != str(model.version):
            raise ModelNotFound(f"that version of {name} is not in service; version {model.version} is")
        return model

    async def refresh(self) -> None:
        """Follow the models folder; what cannot be loaded leaves the version in service as it is.

        Raises:
            DeviceUnavailable: The device asked for cannot be had, so that no model can ever be served.
        """
        async with self._refreshing:
            names = await asyncio.to_thread(store.names, self._settings.models)
            for name in self._refused.keys() - set(names):
                self._accept(name)
            self._unloaded &= set(names)
            for name in names:
                seen: object = None
                try:
                    wanted, version = await asyncio.to_thread(_wanted, self._settings.models, name)
                    if not wanted.loaded:
                        self._unload(name)
                        continue
                    self._unloaded.discard(name)
                    if name not in self._served or self._served[name].version != version:
                        seen = await asyncio.to_thread(_fingerprint, self._settings.models / name / str(version))
                        if name in self._refused and seen is not None and self._refused[name][0] == seen:
                            continue
                        self._serve(await self._load(name, version))
                    self._accept(name)
                except (BundleError, OSError) as error:
                    self._refuse(name, None if _passing(error) else seen, str(error))
                else:
                    await self._follow_shadow(name, wanted)

    async def set_loaded(self, name: str, loaded: bool) -> None:
        """Take a model into service or out of it: for good, and in every service that follows this folder.

        Args:
            name: The model.
            loaded: Whether it is to be served.

        Raises:
            ModelNotFound: There is no such model.
            ModelRefused: What should be served of it cannot be.
            ModelsNotWritable: The folder cannot be written.
        """
        try:
            await asyncio.to_thread(registry.set_loaded, self._settings.models, name, loaded)
        except BundleNotFound as error:
            raise ModelNotFound("there is no such model in the models folder") from error
        except BundleError as error:
            raise ModelRefused(str(error)) from error
        except OSError as error:
            raise ModelsNotWritable(
                f"serving.json cannot be written ({error.strerror}); the folder may be mounted read-only here"
            ) from error
        await self.refresh()
        if loaded and name not in self._served:
            raise ModelRefused(self.refused.get(name, "it could not be loaded; the log says why"))

    async def watch(self) -> None:
        """Refresh for ever; what goes wrong is logged and ends nothing."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except Exception:
                log.exception("the models folder could not be looked at")

    async def aclose(self) -> None:
        """Answer what is queued everywhere, then end."""
        for model in self.served:
            self._retire(model)
        await asyncio.gather(*self._retiring)

    async def _load(self, name: str, version: int, *, shadow: bool = False) -> ServedModel:
        return await asyncio.to_thread(
            load, self._settings.models, name, version, self._settings, self._metrics, shadow=shadow
        )

    def _serve(self, model: ServedModel) -> None:
        old = self._served.get(model.name)
        self._served[model.name] = model
        self._metrics.reloads.labels(model.name, "loaded").inc()
        self._metrics.model_info.labels(*_info(model)).set(1)
        self._metrics.model_loaded.labels(model.name, str(model.version)).set(model.loaded_at)
        log.info("serving %s version %d on %s", model.name, model.version, model.scorer.provider)
        if old is not None:
            self._retire(old)

    def _unload(self, name: str) -> None:
        self._accept(name)
        self._unloaded.add(name)
        model = self._served.pop(name, None)
        if model is not None:
            log.info("%s is out of service, as its serving.json says", name)
            self._retire(model)

    def _retire(self, model: ServedModel) -> None:
        """Let a version finish what it has, and its shadow nothing."""
        self._metrics.model_info.labels(*_info(model)).set(0)
        self._drop_shadow(model)
        self._finish(model.aclose(self._settings.grace_seconds))

    def _finish(self, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(ending)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _follow_shadow(self, name: str, wanted: Serving) -> None:
        """Try out what `serving.json` names, and nothing else."""
        model = self._served[name]
        version = None if wanted.shadow == model.version else wanted.shadow
        if model.shadow is not None and model.shadow.model.version != version:
            self._drop_shadow(model)
        if version is None or model.shadow is not None:
            if version is None:
                self._refused_shadows.pop(name, None)
            return
        seen: object = None
        before = self._refused_shadows.get(name)
        try:
            seen = await asyncio.to_thread(_fingerprint, self._settings.models / name / str(version))
            if before is not None and before[0] == seen:
                return
            shadow = await self._load(name, version, shadow=True)
        except (BundleError, OSError) as error:
            now = (None if _passing(error) else seen, f"version {version} of {name}: {error}")
            self._refused_shadows[name] = now
            if now != before:
                self._metrics.reloads.labels(name, "shadow refused").inc()
                log.error("refused as a shadow, %s", now[1])
            return
        self._refused_shadows.pop(name, None)
        self._metrics.reloads.labels(name, "shadow loaded").inc()
        self._metrics.model_info.labels(*_info(shadow)).set(0)  # known, and not in service
        self._metrics.model_shadow.labels(name, str(version)).set(1)
        log.info("trying version %d of %s out beside version %d", version, name, model.version)
        model.shadow = Shadow(shadow, self._metrics, self._settings.deadline_ms / 1e3)

    def _drop_shadow(self, model: ServedModel) -> None:
        shadow, model.shadow = model.shadow, None
        if shadow is not None:
            self._metrics.model_shadow.labels(model.name, str(shadow.model.version)).set(0)
            self._finish(shadow.aclose(self._settings.grace_seconds))

    def _accept(self, name: str) -> None:
        self._refused.pop(name, None)
        self._metrics.model_refused.labels(name).set(0)

    def _refuse(self, name: str, seen: object, reason: str) -> None:
        self._unloaded.discard(name)
        if name in self._refused and self._refused[name] == (seen, reason):
            return
        self._refused[name] = (seen, reason)
        self._metrics.model_refused.labels(name).set(1)
        self._metrics.reloads.labels(name, "refused").inc()
        log.error("%s is refused: %s", name, reason)


def _info(model: ServedModel) -> tuple[str, str, str, str, str]:
    digest = model.manifest.digest
    return model.name, str(model.version), digest, model.scorer.device, model.scorer.provider


def _wanted(root: Path, name: str) -> tuple[Serving, int]:
    wanted = serving.read(root / name)
    return wanted, store.served_version(root, name) if wanted.loaded else 0


def _passing(error: Exception) -> bool:
    """Whether a fault may be gone in a second: what the file system refuses, unlike what a bundle has of its own."""
    return isinstance(error, OSError) or isinstance(error.__cause__, OSError)


def _fingerprint(folder: Path) -> object:
    files = sorted(folder.iterdir())
    return folder.name, tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
