"""What the default score costs beside the ELBO alone, of one network: in the graph and over HTTP.

    python benchmarks/combined.py [--turns 200]

A model with all defaults, and its twin: the same graph, cut to what the ELBO alone needs, and served beside it by the
same process. Both score the same 512 records, by turns: as the service cuts them, on one thread, with
ONNX Runtime alone; and as one JSON request to `/score`, one at a time. Times are medians.
"""

import argparse
import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

# As a script, its neighbour training.py would stand in for the package of that name.
sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
import onnx
import onnx.utils
import orjson
from rich.console import Console

from benchmarks.serving.heading import heading
from benchmarks.serving.model import FIELDS, SAMPLES, Rows, simulate, table
from benchmarks.serving.report import show, titled
from benchmarks.serving.servers import HOST, Server, free_port, surprisal
from bundle.contents.golden import Golden, GoldenCase
from bundle.folder import store
from training import config, pipeline
from training.data.read import Data
from training.export import runs

RECORDS = 512
ROWS = 4000
WARM_UP = 20
WHOLE, TWIN = "combined", "elbo"


def evidence_alone(graph: bytes) -> bytes:
    """The same graph without what the ELBO does not need; scores beyond it are its copies: nothing else differs."""
    model = onnx.load_from_string(graph)
    inputs = [each.name for each in model.graph.input]
    outputs = {each.name: each for each in model.graph.output}
    cut = onnx.utils.Extractor(model).extract_model(inputs, ["elbo", "latent_mean"])
    made = {name for node in cut.graph.node for name in node.output}
    for name in outputs.keys() - {"elbo", "latent_mean"}:
        if name not in made:  # what the ELBO is made of is there already
            cut.graph.node.append(onnx.helper.make_node("Identity", ["elbo"], [name]))
        cut.graph.output.append(outputs[name])
    onnx.checker.check_model(cut)
    content: bytes = cut.SerializeToString()
    return content


def write(models: Path) -> None:
    """Train the model and write it and its twin."""
    data = Data("simulated", "0" * 64, table(simulate(ROWS, seed=1)))
    trained = pipeline.train(data, models, WHOLE, config.build({"fit": {"epochs": 3}}), device="cpu")
    bundle = store.load(models, WHOLE, trained.version)
    cut = evidence_alone(bundle.files["scorer.onnx"])
    golden = replayed(Golden.model_validate_json(bundle.files["golden.json"]), cut)
    changed = {"scorer.onnx": cut, "golden.json": golden.model_dump_json().encode()}
    store.write(models, TWIN, bundle.manifest, {**bundle.files, **changed})


def replayed(golden: Golden, cut: bytes) -> Golden:
    """The golden records as the cut graph scores them: what is no part of the ELBO there gives the ELBO."""
    nodes = onnx.load_from_string(cut).graph.node
    stand_ins = {node.output[0] for node in nodes if node.op_type == "Identity" and node.input[0] == "elbo"}

    def case(of: GoldenCase) -> GoldenCase:
        expected = {name: of.expected["elbo" if name in stand_ins else name] for name in of.expected}
        return of.model_copy(update={"expected": expected})

    return golden.model_copy(update={"cases": tuple(map(case, golden.cases))})


def by_turns(turns: int, work: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, called one after the other."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(turns):
        for name, call in work.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in seconds.items()}


def of_graphs(models: Path, rows: Rows, turns: int) -> dict[str, float]:
    """Seconds of ONNX Runtime for the records, cut as the service cuts them."""
    noise = np.load(models / WHOLE / "1" / "noise.npy")[:SAMPLES]
    sessions = {name: runs.session((models / name / "1" / "scorer.onnx").read_bytes(), 1) for name in (WHOLE, TWIN)}
    work = {name: partial(runs.score, session, {"numeric": rows}, noise) for name, session in sessions.items()}
    by_turns(WARM_UP, work)
    return by_turns(turns, work)


def of_requests(models: Path, rows: Rows, turns: int) -> dict[str, float]:
    """Seconds from a request to its whole answer."""
    body = orjson.dumps({"records": rows.tolist(), "samples": SAMPLES})
    launch = surprisal(models, workers=1)
    launch = replace(launch, environment=launch.environment | {"SURPRISAL_DEFAULT_MODEL": WHOLE})
    with Server(launch, free_port(8700), models) as server:
        connection = http.client.HTTPConnection(HOST, server.port)

        def ask(name: str) -> None:
            connection.request("POST", f"/models/{name}/score", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise SystemExit(content.decode())

        work = {name: partial(ask, name) for name in (WHOLE, TWIN)}
        by_turns(WARM_UP, work)
        return by_turns(turns, work)


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=200)
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        write(models)
        rows = simulate(RECORDS, seed=2)
        console.print(heading(), soft_wrap=True)
        shown = titled(f"{RECORDS} records of {len(FIELDS)} numbers, {SAMPLES} draws", "", *_COLUMNS)
        for what, measure in (("graph, one thread", of_graphs), ("POST /score, one worker", of_requests)):
            seconds = measure(models, rows, arguments.turns)
            cells = (f"{1e3 * seconds[name]:.2f}" for name in (WHOLE, TWIN))
            shown.add_row(what, *cells, f"{seconds[WHOLE] / seconds[TWIN]:.2f}")
        show(console, shown)


_COLUMNS = ("every score, ms", "ELBO alone, ms", "ratio")


if __name__ == "__main__":
    main()
