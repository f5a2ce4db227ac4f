"""The application: wiring and lifespan."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from service import openapi
from service.gate import Gate
from service.metrics import Metrics
from service.models import Models
from service.routes import router
from service.score import ScoreEndpoint
from service.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Build the service; nothing is loaded before its lifespan begins.

    Args:
        settings: Read once, here.

    Returns:
        The ASGI application; `app.state.models` are its models, `app.state.metrics` its metrics.
    """
    metrics = Metrics()
    models = Models(settings, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await models.refresh()
        watching = asyncio.create_task(models.watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await models.aclose(settings.grace_seconds)

    app = FastAPIOffline(
        title="Surprisal",
        version=version("surprisal"),
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        # Starlette would answer these itself, as plain text; the gate makes problem documents of them.
        exception_handlers={HTTPException: _leave_to_the_gate},
    )
    app.state.models, app.state.metrics = models, metrics
    app.include_router(router(models, metrics))
    score = ScoreEndpoint(models, settings, metrics)
    app.add_middleware(Gate, score=score, metrics=metrics, slow_seconds=settings.slow_ms / 1e3)

    def document() -> dict[str, Any]:
        return openapi.document(app, models, settings)

    app.openapi = document  # type: ignore[method-assign]
    return app


def _leave_to_the_gate(request: Request, error: Exception) -> Any:
    raise error
