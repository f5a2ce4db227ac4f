"""What tests of several packages share: one small bundle, trained for real, and services on it."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import certifi
import httpx
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet
import pytest

from bundle.folder import store
from reading.options import Options
from service.engine.run_guard import Watch
from service.front.app import Application
from service.models import opening
from service.models.served_model import ServedModel, opened
from service.settings import Settings
from service.telemetry.metrics import Metrics
from training import config, pipeline
from training.data import image_files, transactions
from training.data.read import Data, of_table, read

NAME = "transactions"
END_OF_CERTIFICATE = "-----END CERTIFICATE-----"
NUMBERS = ("amount", "hour", "distance_km")
TRAINED_ON = "payments.parquet"
"""Beside the models folder."""
FAST = {
    "network": {"hidden": (32,)},
    "fit": {"epochs": 12},
    "data": {"label": transactions.LABEL, "normal": transactions.NORMAL},
}
IMAGES, AUTOENCODER = "scans", "code"
FAST_ON_IMAGES = {
    "network": {"channels": (8,), "latent_size": 3},
    "fit": {"epochs": 30, "learning_rate": 5e-3},
    "data": {"label": "label", "normal": "normal"},
    "scoring": {"false_alarm_rate": 0.05},
}


def pytest_configure(config: pytest.Config) -> None:
    """What all processes of a run share.

    Graphs that are kept for the next training: no run has those of another. And a file with one certificate: a client
    reads all that it trusts, 150 by default, which takes thirty times as long as asking a service.
    """
    # A shell has its commands in the background ignore Ctrl-C, and they hand that on to what they start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="surprisal-cache-")
        config.add_cleanup(folder.cleanup)
        os.environ["XDG_CACHE_HOME"] = folder.name
        trusted = Path(folder.name, "one.pem")
        trusted.write_text("".join(Path(certifi.where()).read_text().partition(END_OF_CERTIFICATE)[:2]) + "\n")
        os.environ["SSL_CERT_FILE"] = str(trusted)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is slow begins first, so that no process ends long after the other."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def load(root: Path, name: str, version: int, settings: Settings) -> ServedModel:
    """A version as a service has it: read, opened and warmed up, with a minute for each run."""
    watch = Watch(60.0, 60.0)
    bundle = opening.read(root, name, version, settings)
    return opened(bundle, settings, Metrics(), shadow=False, loading=watch, serving=watch)


def as_data(table: pa.Table, name: str = "table.parquet", options: Options | None = None) -> Data:
    """A table as if it had been read from a file."""
    return of_table(name, "0" * 64, table, options)


def simulate_payments(seed: int) -> pa.Table:
    """As many payments as the shared model was trained on: with `FAST` they give an architecture that was exported."""
    return transactions.simulate(8000, seed=seed)


def few_payments() -> pa.Table:
    """Payments for examples that train with the defaults: these give one architecture, which is exported once."""
    return simulate_payments(seed=1).slice(0, 1000)


def simulate_numbers(seed: int) -> pa.Table:
    """Some columns of payments: with `FAST` they give the smallest architecture, which several tests share."""
    return transactions.simulate(2100, seed=seed).select([*NUMBERS, transactions.LABEL])


def simulate_images(rows: int, seed: int, *, strange: bool = False) -> npt.NDArray[np.uint8]:
    """Images of a bright bar on a dark ground, (rows, 8, 8, 1): it lies, or it stands where they are to be strange."""
    random = np.random.default_rng(seed)
    levels = random.integers(0, 40, (rows, 8, 8, 1))
    for image, place in zip(levels, random.integers(0, 7, rows), strict=True):
        bar = image[:, place : place + 2] if strange else image[place : place + 2]
        bar += random.integers(120, 200)
    return levels.astype(np.uint8)


def table_of_images(normal: int, strange: int, seed: int) -> pa.Table:
    """Such images with their `label`, normal or strange."""
    images = np.concatenate([simulate_images(normal, seed), simulate_images(strange, seed, strange=True)])
    return pa.table({"image": image_files.column(images), "label": ["normal"] * normal + ["strange"] * strange})


def once(factory: pytest.TempPathFactory, name: str, train: Callable[[Path], pipeline.Trained]) -> pipeline.Trained:
    """What a training gives that all processes of a run share; the first that needs it trains."""
    shared = "PYTEST_XDIST_WORKER" in os.environ
    folder = factory.getbasetemp().parent / f"of-{name}" if shared else factory.mktemp(name)
    folder.mkdir(exist_ok=True)
    out = folder / "models"
    with (folder / "models.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / name).exists():
            return train(out)
    return pipeline.Trained(name, 1, out / name / "1", store.load(out, name, 1).manifest)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Trained:
    """A small model of simulated card payments, one for all processes of a run."""

    def train(out: Path) -> pipeline.Trained:
        pyarrow.parquet.write_table(simulate_payments(seed=1), out.with_name(TRAINED_ON))
        return pipeline.train(read(out.with_name(TRAINED_ON)), out, NAME, config.build(FAST), device="cpu")

    return once(tmp_path_factory, NAME, train)


@pytest.fixture(scope="session")
def trained_images(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Trained:
    """The same of simulated images."""

    def train(out: Path) -> pipeline.Trained:
        table = table_of_images(1200, 60, seed=1)
        return pipeline.train(as_data(table), out, IMAGES, config.build(FAST_ON_IMAGES), device="cpu")

    return once(tmp_path_factory, IMAGES, train)


@pytest.fixture(scope="session")
def trained_autoencoder(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Trained:
    """A deterministic autoencoder of the same images, which has one score."""

    def train(out: Path) -> pipeline.Trained:
        settings = FAST_ON_IMAGES | {"objective": {"kind": "autoencoder"}, "fit": {"epochs": 2}}
        return pipeline.train(
            as_data(table_of_images(600, 20, seed=1)), out, AUTOENCODER, config.build(settings), device="cpu"
        )

    return once(tmp_path_factory, AUTOENCODER, train)


@pytest.fixture(scope="session")
def models(trained: pipeline.Trained) -> Path:
    """The models folder that holds it; not to be changed."""
    return trained.folder.parents[1]


@pytest.fixture(scope="session")
def image_models(trained_images: pipeline.Trained) -> Path:
    """The models folder that holds the model of images; not to be changed."""
    return trained_images.folder.parents[1]


@pytest.fixture(scope="session")
def image_server(image_models: Path) -> Iterator[str]:
    """The address of a running service on it."""
    with running(image_models) as (_, url):
        yield url


@pytest.fixture(scope="session")
def payments() -> list[dict[str, Any]]:
    """Fresh normal payments as a client would send them."""
    table = transactions.simulate(1000, seed=2, fraud_share=0.0).drop_columns([transactions.LABEL])
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@contextlib.asynccontextmanager
async def in_process(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, Application]]:
    """The service and a client of it, in this process."""
    app = Application(settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.api.router.lifespan_context(app.api),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client, app


@pytest.fixture
async def client(models: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service on the small model."""
    async with in_process(Settings(models=models)) as (client, _):
        yield client


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    models: Path,
    workers: int = 1,
    own_group: bool = False,
    ready: str | None = None,
    preexec: Callable[[], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`surprisal serve` as a process of its own, once it is ready, and its address."""
    port = free_port()
    command = [sys.executable, "-m", "surprisal", "serve", "--models", str(models), "--port", str(port)]
    command += ["--workers", str(workers)]
    variables = {**os.environ, **(environment or {})}
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
        process_group=0 if own_group else None,
        preexec_fn=preexec,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_answering(ready or url, process)
        yield process, url
    finally:
        end_at_once(process)


def end_at_once(process: subprocess.Popen[str]) -> None:
    """End a service without a drain: workers whose supervisor is gone would go on for seconds."""
    workers = children_of(process.pid)
    if process.poll() is None:
        process.kill()
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    process.communicate()


def children_of(pid: int) -> list[int]:
    """The processes that a process has begun, oldest first; none of one that has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Look again and again, for some time at most; no result depends on when it comes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.02)


def wait_until_answering(url: str, process: subprocess.Popen[str]) -> None:
    """Return once `/healthz` answers."""

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the service ended with {process.returncode}: {process.communicate()[1]}")
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/healthz").status_code == 200
        return False

    until(answers)


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[str]:
    """The address of a running service on the small model."""
    with running(models) as (_, url):
        yield url
