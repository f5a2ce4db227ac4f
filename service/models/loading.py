"""Loads a version within its limits of time and memory: read here, tried in a child, then opened here."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bundle.errors import BundleError
from bundle.folder.store import Bundle
from service.engine import cpus, graph
from service.engine.run_guard import Watch
from service.models import daemon_thread, trial
from service.models.address_space import ADDRESS_SPACE, allowance, out_of_memory
from service.models.opening import read
from service.models.quarantine import MOST_STRIKES, Quarantine
from service.models.served_model import ServedModel, opened
from service.models.trial import LimitExceeded
from service.settings import Settings
from service.telemetry import logs
from service.telemetry.metrics import Metrics

AT_ONCE = 4
"""Versions that are loaded side by side: one that takes long holds up no other, and many do not fill the memory."""
INLINE_RUN_SECONDS = 2.0
"""A run on the event loop is expected to take 2 ms; after this long it is stopped."""
LEAST_RUN_SECONDS = 10.0
"""A run on a thread may take as long as the deadline of requests, and this long at least."""
STUCK_EXIT_CODE = 70

log = logging.getLogger(logs.MODELS)


@dataclass(frozen=True)
class Version:
    """What is to be loaded.

    Args:
        name: The model's name.
        number: Its version.
        shadow: Whether it is to answer nobody.
    """

    name: str
    number: int
    shadow: bool = False

    def __str__(self) -> str:
        return f"version {self.number} of {self.name}"


class Loader:
    """Loads versions, several side by side, none for ever.

    Args:
        settings: Of the service.
        metrics: Where they are counted.
        quarantine: The versions that are not to be loaded.
        ending: Whether the process is about to end anyway.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, quarantine: Quarantine, ending: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._quarantine = quarantine
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._ending = ending
        self._proved: set[str] = set()
        """Digests of manifests, and so of all their files, that were loaded once: no need to try them again."""

    async def load(self, version: Version, *, tried: bool) -> ServedModel:
        """Load a version.

        Args:
            version: Which.
            tried: Whether it is tried in a child first. Before anything is served there is nothing to protect, and
                the child would double the time of the start.

        Raises:
            LimitExceeded: It takes more time or memory than it may.
            BundleError: It is refused for another reason.
            OSError: Its folder cannot be read, or no child started.
            DeviceUnavailable: The device asked for cannot be had.
        """
        seconds = self._settings.load_seconds
        step = "reading its files"

        def begun(next_step: str) -> None:
            nonlocal step
            step = next_step

        async with self._at_once:
            try:
                async with asyncio.timeout(seconds) as limit:
                    bundle = await daemon_thread.run(
                        read,
                        self._settings.models,
                        version.name,
                        version.number,
                        self._settings,
                        name=f"reads-{version}",
                    )
                    if (why := self.why_held(bundle.manifest.digest)) is not None:
                        raise BundleError(why)
                    if tried and bundle.manifest.digest not in self._proved:
                        await trial.prove(self._settings.models, bundle, seconds, begun)
                    step = "opening its graphs"
                    model = await self._open(bundle, version)
                    self._proved.add(bundle.manifest.digest)
                    return model
            except TimeoutError as error:
                if not limit.expired():
                    raise
                raise trial.took_too_long(seconds, step) from error

    def why_held(self, digest: str) -> str | None:
        """Why a version is not to be served though nothing is wrong with its files; None where it is to be.

        Args:
            digest: Of its manifest.
        """
        if not self._quarantine.holds(digest):
            return None
        return (
            f"its graph had to be stopped {MOST_STRIKES} times, so it is served no more until the service is started "
            "again; return to the version before (surprisal models rollback), or train again"
        )

    async def _open(self, bundle: Bundle, version: Version) -> ServedModel:
        seconds = self._settings.load_seconds
        loading = Watch(seconds, seconds)
        serving = self._watch(version, bundle.manifest.digest)

        def open_here() -> ServedModel:
            return opened(
                bundle, self._settings, self._metrics, shadow=version.shadow, loading=loading, serving=serving
            )

        more = allowance(bundle, self._settings.threads or cpus.available())
        # A GPU maps more than any limit that would be of use.
        free = self._settings.device != "cpu" and graph.offers_cuda()
        try:
            with contextlib.nullcontext() if free else ADDRESS_SPACE.limited(more):
                return await daemon_thread.run(open_here, name=f"opens-{version}")
        except Exception as error:
            if out_of_memory(error):
                raise LimitExceeded(f"needs more than {more // 2**20} MiB to load") from error
            raise
        finally:
            loading.given_up = True

    def _watch(self, version: Version, digest: str) -> Watch:
        def stopped(seconds: float) -> None:
            strikes = self._quarantine.strike(digest)
            log.error(
                "%s had to be stopped: its graph ran for %.1f s; this is stop %d, and after %d it is served no more",
                version,
                seconds,
                strikes,
                MOST_STRIKES,
            )

        def stuck(seconds: float) -> None:
            if self._ending():
                return
            log.error("%s cannot be stopped: its graph has run for %.1f s; this process ends", version, seconds)
            logging.shutdown()
            sys.stderr.flush()
            os._exit(STUCK_EXIT_CODE)

        return Watch(max(LEAST_RUN_SECONDS, self._settings.deadline_ms / 1e3), INLINE_RUN_SECONDS, stopped, stuck)
