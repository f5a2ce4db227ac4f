"""uvicorn with our own shutdown: not ready first, then deaf, then done, with exit code 0."""

import signal
import time
from types import FrameType

import uvicorn

from service import logs, scorer
from service.app import Application
from service.models import Models
from service.settings import Settings


class Server(uvicorn.Server):
    """A server that goes on accepting connections for a while after SIGTERM, so that balancers can look away.

    Args:
        config: uvicorn's.
        models: Told that the service drains.
        drain_seconds: How long it goes on.
    """

    def __init__(self, config: uvicorn.Config, models: Models, drain_seconds: float) -> None:
        super().__init__(config)
        self._models = models
        self._drain_seconds = drain_seconds
        self._stop_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at a second signal, or at Ctrl-C, stop listening at once."""
        self._models.draining = True
        if sig == signal.SIGINT or self._stop_at is not None:
            self.force_exit = self.should_exit
            self.should_exit = True
        else:
            self._stop_at = time.monotonic() + self._drain_seconds

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; true once it is time to stop listening."""
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)


def run(settings: Settings) -> None:
    """Serve until a signal ends it.

    Args:
        settings: Of the service.

    Raises:
        DeviceUnavailable: The device asked for cannot be had.
        SystemExit: 1; the port is taken, or the start failed otherwise, and the log says why.
    """
    scorer.require(settings.device)
    logs.configure(settings.log_level)
    app = Application(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(settings.grace_seconds),
    )
    try:
        Server(config, app.models, settings.drain_seconds).run()
    except SystemExit as error:
        raise SystemExit(1) from error  # uvicorn's own code for a failed start is 3
