"""The models in service: found in the models folder, verified, warmed up, swapped without a lost request."""

import asyncio
import logging
import time
from dataclasses import replace

from bundle.errors import BundleError, BundleNotFound
from bundle.folder import registry
from service.engine.device import DeviceUnavailable
from service.engine.run_guard import GUARD
from service.errors import ModelNotFound, ModelRefused, ModelsNotWritable, NotReady
from service.models import daemon_thread, quarantine
from service.models.in_service import InService
from service.models.loading import Loader, Version
from service.models.models_folder import Folder, Look
from service.models.quarantine import Quarantine
from service.models.refusal import Refusal, Refusals
from service.models.served_model import ServedModel
from service.models.trial import LimitExceeded
from service.settings import Settings
from service.telemetry import logs
from service.telemetry.metrics import Metrics

POLL_SECONDS = 1.0
"""The models folder is looked at this often; file notifications fail on shared volumes."""
START_SECONDS = 5.0
"""At the start, once a model is served, the others have this long; what takes longer is tried again in a child."""
CLOSE_SECONDS = 2.0
"""Nobody waits any more for what is queued at the very end."""

log = logging.getLogger(logs.MODELS)


class Models:
    """Every model in service, by name.

    Args:
        settings: Where they are, and the limits.
        metrics: Where loads are counted.
        held: The versions that are not to be served; by default none is, and nobody shares it.
    """

    def __init__(self, settings: Settings, metrics: Metrics, held: Quarantine | None = None) -> None:
        self._settings = settings
        self._folder = Folder(settings.models)
        held = held or Quarantine(quarantine.new_file())
        self._loader = Loader(settings, metrics, held, ending=lambda: self.draining)
        self._in_service = InService(settings, metrics)
        self._refusals = Refusals(metrics)
        self._unloaded: set[str] = set()
        self._looks: dict[str, Look] = {}
        self._loads: dict[Version, asyncio.Task[None]] = {}
        self._seen: dict[Version, object] = {}
        self._starting = False
        self._no_device: DeviceUnavailable | None = None
        self.draining = False

    @property
    def served(self) -> tuple[ServedModel, ...]:
        """The models in service, sorted by name."""
        return self._in_service.every

    @property
    def refused(self) -> dict[str, str]:
        """Why the version that should be served is not, by model's name."""
        return {name: refusal.reason for name, refusal in self._refusals.models.items()}

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
        if not self._in_service:
            reasons = [f"{name}: {reason}" for name, reason in self.refused.items()]
            reasons += [f"{name} was taken out of service" for name in self.unloaded]
            reasons += [f"{version} is being loaded" for version in self._loads]
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
            name = self._settings.default_model or self._in_service.only
        if not self._in_service:
            raise NotReady(self.not_ready() or "no model is loaded")
        model = None if name is None else self._in_service.get(name)
        if model is None:
            known = ", ".join(each.name for each in self.served)
            if name is None:
                raise ModelNotFound(f"there are several models; name one: POST /models/NAME/score with one of {known}")
            raise ModelNotFound(f"there is no such model in service; there are {known}")
        if version is not None and version != str(model.version):
            raise ModelNotFound(f"that version of {name} is not in service; version {model.version} is")
        return model

    async def start(self) -> None:
        """Load what is there; return once it is served, or refused, or takes much longer than the others.

        Raises:
            DeviceUnavailable: The device asked for cannot be had, so that no model can ever be served.
        """
        self._starting = True
        try:
            await self.follow()
            while self._loads:
                patience = START_SECONDS if self._in_service else None
                done, _ = await asyncio.wait(
                    self._loads.values(), timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
        finally:
            self._starting = False
        if self._no_device is not None:
            raise self._no_device
        for version in self._loads:
            log.warning("%s takes long; it is tried again in a process of its own", version)
        self._give_up(*self._loads)

    async def refresh(self) -> None:
        """Follow the models folder, and wait for what is loaded."""
        await self.follow()
        while self._loads:
            await asyncio.wait(self._loads.values(), return_when=asyncio.FIRST_COMPLETED)

    async def follow(self) -> None:
        """Look at the models folder, and begin to load what it names; what cannot be leaves the version in service."""
        for model in self.served:
            self._end_what_is_held(model)
        names = await self._folder.names()
        if names is None:
            log.error("the models folder %s does not answer", self._settings.models)
            return
        for name in {*self._refusals.models, *(version.name for version in self._loads)} - set(names):
            self._apply(name, None)
        self._unloaded &= set(names)
        await self._look(names)

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
            async with asyncio.timeout(self._settings.load_seconds):
                await daemon_thread.run(
                    registry.set_loaded, self._settings.models, name, loaded, name="writes-serving.json"
                )
        except BundleNotFound as error:
            raise ModelNotFound("there is no such model in the models folder") from error
        except BundleError as error:
            raise ModelRefused(str(error)) from error
        except OSError as error:  # a timeout among them
            why = f"serving.json cannot be written ({error.strerror or 'no answer'})"
            raise ModelsNotWritable(f"{why}; the folder may be mounted read-only here") from error
        await self._look([name])
        while loads := [self._loads[each] for each in self._loads_of(name) if not each.shadow and self._wants(each)]:
            await asyncio.wait(loads)
        if loaded and name not in self._in_service:
            raise ModelRefused(self.refused.get(name, "it could not be loaded; the log says why"))

    async def watch(self) -> None:
        """Follow for ever; what goes wrong is logged and ends nothing."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.follow()
            except Exception:
                log.exception("the models folder could not be looked at")

    async def aclose(self) -> None:
        """End what is loaded, answer what is queued everywhere, then end."""
        self.draining = True
        self._folder.close()
        self._give_up(*self._loads)
        await self._in_service.aclose(min(self._settings.grace_seconds, CLOSE_SECONDS))
        GUARD.stop_all()

    async def _look(self, names: list[str]) -> None:
        for name in await self._folder.look(names, self._apply):
            self._refuse(name, Refusal(None, f"its folder {self._settings.models / name} does not answer"))

    def _apply(self, name: str, look: Look | Exception | None) -> None:
        """Do what a model's folder says."""
        if look is None:
            self._give_up(*self._loads_of(name))
            self._refusals.accept(name)
            self._unloaded.discard(name)
            return
        if isinstance(look, Exception):
            if isinstance(look, BundleError):
                self._give_up(*self._loads_of(name))
            self._refuse(name, Refusal(None, str(look)))
            return
        self._looks[name] = look
        if not look.loaded:
            self._give_up(*self._loads_of(name))
            self._unload(name)
            return
        self._unloaded.discard(name)
        wanted = Version(name, look.version)
        # What is still there may be wanted again soon, and is tried only once.
        self._give_up(*(each for each in self._loads_of(name) if each.number not in look.there))
        served = self._in_service.get(name)
        if served is None or served.version != look.version:
            self._begin(wanted, self._refusals.models.get(name))
        else:
            self._refusals.accept(name)
            self._follow_shadow(served, look)

    def _loads_of(self, name: str) -> list[Version]:
        return [version for version in self._loads if version.name == name]

    def _begin(self, version: Version, refused: Refusal | None) -> None:
        """Load a version, unless that is being done, or was refused and nothing has changed."""
        seen = self._looks[version.name].folders[version.number]
        if version in self._loads or (refused is not None and refused.holds(seen, time.monotonic())):
            return
        self._loads[version] = asyncio.create_task(self._load(version, seen, tried=not self._starting))

    def _give_up(self, *versions: Version) -> None:
        for version in versions:
            task = self._loads.pop(version)
            task.cancel()
            self._in_service.await_at_the_end(task)

    async def _load(self, version: Version, seen: object, *, tried: bool) -> None:
        """Load a version and take it into service, or say why not."""
        before = (self._refusals.shadows if version.shadow else self._refusals.models).get(version.name)
        gone = False
        try:
            model = await self._loader.load(version, tried=tried)
        except asyncio.CancelledError:
            return  # whoever cancelled it has taken it from the list
        except LimitExceeded as error:
            refusal = Refusal(seen, str(error)).after(before, time.monotonic())
        except (BundleError, OSError) as error:
            refusal = Refusal.of(seen, error)
            # Since it was seen; the next look tells what is wanted now.
            gone = isinstance(error, BundleNotFound) and not version.shadow
        except DeviceUnavailable as error:
            self._no_device = error
            refusal = Refusal(seen, str(error))
        except Exception:
            log.exception("%s could not be loaded", version)
            refusal = Refusal(seen, "it could not be loaded; the log says why")
        else:
            del self._loads[version]
            self._seen[version] = seen
            self._take(version, model)
            return
        del self._loads[version]
        if gone or not self._wants(version):
            log.info("%s is not wanted any more, and could not be loaded: %s", version, refusal.reason)
        elif version.shadow:
            self._refusals.refuse_shadow(version, refusal)
        else:
            self._refuse_version(version, refusal)

    def _wants(self, version: Version) -> bool:
        look = self._looks[version.name]
        return look.loaded and version.number == (look.shadow if version.shadow else look.version)

    def _take(self, version: Version, model: ServedModel) -> None:
        if not self._wants(version):
            self._in_service.end(model)
        elif version.shadow:
            if self._in_service.try_out(version, model):
                self._refusals.shadows.pop(version.name, None)
        else:
            self._in_service.serve(model)
            self._refusals.accept(version.name)
            self._follow_shadow(model, self._looks[version.name])

    def _end_what_is_held(self, model: ServedModel) -> None:
        """Take out of service whose graph had to be stopped too often, here or in another worker."""
        shadow = model.shadow
        if shadow is not None and (why := self._loader.why_held(shadow.model.manifest.digest)) is not None:
            self._in_service.drop_shadow(model)
            version = Version(model.name, shadow.model.version, shadow=True)
            self._refusals.refuse_shadow(version, Refusal(self._seen.get(version), why))
        if (why := self._loader.why_held(model.manifest.digest)) is not None:
            self._in_service.take_out(model.name)
            version = Version(model.name, model.version)
            self._refuse_version(version, Refusal(self._seen.get(version), why))

    def _unload(self, name: str) -> None:
        self._refusals.accept(name)
        self._unloaded.add(name)
        if self._in_service.take_out(name):
            log.info("%s is out of service, as its serving.json says", name)

    def _follow_shadow(self, model: ServedModel, look: Look) -> None:
        """Try out what `serving.json` names, and nothing else."""
        name, version = model.name, look.shadow
        self._give_up(*(each for each in self._loads_of(name) if each.shadow and each.number != version))
        if model.shadow is not None and model.shadow.model.version != version:
            self._in_service.drop_shadow(model)
        if version is None:
            self._refusals.shadows.pop(name, None)
        elif model.shadow is None:
            self._begin(Version(name, version, shadow=True), self._refusals.shadows.get(name))

    def _refuse_version(self, version: Version, refusal: Refusal) -> None:
        self._refuse(version.name, replace(refusal, reason=f"version {version.number}: {refusal.reason}"))

    def _refuse(self, name: str, refusal: Refusal) -> None:
        self._unloaded.discard(name)
        self._refusals.refuse(name, refusal)
