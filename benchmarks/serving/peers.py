"""Other servers around the same graph: one written by hand, and those whose virtual environments are there."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from benchmarks.serving.formats import oip_json, records_alone
from benchmarks.serving.model import NAME
from benchmarks.serving.servers import HOST, PEERS, Launch, graph_environment, in_words, uvicorn
from service.engine import cpus

PACKAGES = {
    "mlserver": ("mlserver", "httptools", "uvloop", "onnxruntime"),
    "litserve": ("litserve", "httptools", "uvloop", "onnxruntime"),
    "bentoml": ("bentoml", "httptools", "uvloop", "onnxruntime"),
}


def by_hand(models: Path, workers: int) -> Launch:
    """FastAPI with a pydantic body and a typed answer."""
    return uvicorn(f"FastAPI by hand, {in_words(workers)}", "fastapi_app:app", models, workers)


def installed(folder: Path, models: Path, scratch: Path) -> Iterator[tuple[int, Launch]]:
    """Number of workers and launch for each server of `PACKAGES` that has an environment in the folder."""
    many = cpus.available()
    if (folder / "mlserver").is_dir():
        yield 1, _mlserver(_binaries(folder, "mlserver"), models, scratch)
    if (folder / "litserve").is_dir():
        started = (str(_binaries(folder, "litserve") / "python"), str(PEERS / "litserve_app.py"), "{port}")
        for workers in sorted({1, many}):
            environment = graph_environment(models, workers)
            yield workers, Launch(f"LitServe, batching, {in_words(workers)}", started, environment=environment)
    if (folder / "bentoml").is_dir():
        command = (str(_binaries(folder, "bentoml") / "bentoml"), "serve", "bentoml_service:Scorer")
        options = ("--host", HOST, "--port", "{port}", "--working-dir", str(PEERS))
        environment = graph_environment(models, many) | {"BENTOML_DO_NOT_TRACK": "true"}
        yield many, Launch(f"BentoML, {in_words(many)}", (*command, *options), records_alone, environment)


def how_to_install(folder: Path) -> list[str]:
    """The commands that make the environments that are not there."""
    lines = []
    for name, packages in PACKAGES.items():
        place = shlex.quote(str(folder / name))
        if not (folder / name).is_dir():
            lines.append(f"python -m venv {place} && {place}/bin/pip install {' '.join(packages)}")
    return lines


def _mlserver(binaries: Path, models: Path, scratch: Path) -> Launch:
    """Tuned: no batching (which costs more than it gives on a graph this small), no metrics, no access log."""
    settings = {"parallel_workers": 0, "debug": False, "metrics_endpoint": None, "host": HOST}
    model = {"name": NAME, "implementation": "mlserver_model.ScorerModel", "max_batch_size": 0}
    folder = scratch / NAME
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    environment = graph_environment(models, workers=1) | {
        "MLSERVER_HTTP_PORT": "{port}",
        "MLSERVER_GRPC_PORT": "{port+1}",
    }
    return Launch("MLServer, tuned", (str(binaries / "mlserver"), "start", str(folder)), oip_json, environment)


def _binaries(folder: Path, name: str) -> Path:
    return (folder / name / "bin").absolute()
