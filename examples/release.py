"""Release a version as it really goes: train it, let it score in the shadow, compare, promote, roll back.

In one terminal, start a service. It trains a first version, if there is none:

    scripts/demo

In another, release a second version. It trains on newer payments with the configuration of the first:

    .venv/bin/python examples/release.py demo/models/transactions http://127.0.0.1:8000

The arguments are models/NAME, which the service serves, and the service's address. Where it has SURPRISAL_OPS_PORT, a
third one is the address of its metrics. Where it asks for keys, put one of the role score into the variable KEY.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import pyarrow as pa
import pyarrow.parquet
from prometheus_client.parser import text_string_to_metric_families

import surprisal
from training.data import transactions

WAYS = "a key is taken from the variable KEY, and the address of the metrics from the third argument"


class Seen(NamedTuple):
    """What a version has counted since the service started: records that it scored, and those that it flagged."""

    records: float
    flagged: float

    def since(self, before: "Seen") -> "Seen":
        """What was counted since then."""
        return Seen(self.records - before.records, self.flagged - before.flagged)

    def __str__(self) -> str:
        return f"{self.flagged:.0f} of {self.records:.0f} flagged ({self.flagged / max(self.records, 1):.2%})"


class Service(NamedTuple):
    """A service that answers meanwhile: where it is, where its metrics are, and a key if it asks for one."""

    url: str
    metrics_url: str
    key: str | None = None

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        """An answer; with a body it is a POST of JSON. Where there is none, the program ends and says why."""
        address = (self.metrics_url if path == "/metrics" else self.url) + path
        key = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        try:
            with urlopen(Request(address, body, {"Content-Type": "application/json", **key})) as answer:
                return bytes(answer.read())
        except OSError as error:
            raise SystemExit(f"{address}: {error}; {WAYS}") from error


def alike(old: Seen, new: Seen) -> bool:
    """Whether a version flags less than twice what another does, and more than half of it; few records say little."""
    ratio = (new.flagged + 1) / (new.records + 1) * (old.records + 1) / (old.flagged + 1)
    return new.records >= 1000 and 0.5 < ratio < 2.0


def versions(*arguments: str | Path) -> None:
    """Run `surprisal models`, and show what it says."""
    print("$ surprisal models", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "surprisal", "models", *map(str, arguments)], check=True)


def train_next(model: Path, newer: pa.Table) -> int:
    """Train the next version: the configuration stays, the data are newer; returns its number."""
    served = surprisal.load(model)
    manifest = json.loads((model / str(served.version) / "manifest.json").read_text())
    file = model.parents[1] / "newer.parquet"
    pyarrow.parquet.write_table(newer, file)
    return surprisal.train(file, model.parent, name=model.name, config=manifest["training"]["config"]).version


def send(service: Service, model: str, records: pa.Table) -> None:
    """What your clients do all day: they ask for scores."""
    for start in range(0, len(records), 500):
        body = json.dumps({"records": records.slice(start, 500).to_pylist()}).encode()
        service.ask(f"/models/{model}/score", body)


def seen(service: Service, model: str, version: int) -> Seen:
    """What the service's metrics say of a version."""
    counted = {
        sample.name: sample.value
        for family in text_string_to_metric_families(service.ask("/metrics").decode())
        for sample in family.samples
        if (sample.labels.get("model"), sample.labels.get("version")) == (model, str(version))
    }
    return Seen(counted.get("surprisal_records_total", 0.0), counted.get("surprisal_anomalies_total", 0.0))


def wait_for(service: Service, model: str, what: Callable[[dict[str, Any]], bool]) -> None:
    """Return once the service says so of the model: it looks at its folder every second.

    Raises:
        TimeoutError: Not within a minute.
    """
    for _ in range(300):
        if what(json.loads(service.ask(f"/models/{model}"))):
            return
        time.sleep(0.2)
    raise TimeoutError(f"{service.url} does not serve what {model}/serving.json says; GET /models may say why")


def main(
    path: str = "demo/models/transactions", url: str = "http://127.0.0.1:8000", metrics_url: str | None = None
) -> None:
    """Release a second version, and take it back."""
    model = Path(path).resolve()
    service = Service(url, metrics_url or url, os.environ.get("KEY"))
    for asked_later in (f"/models/{model.name}", "/metrics"):
        service.ask(asked_later)  # or else it would fail only after something was changed
    old = surprisal.load(model).version
    # Without this the newest version is served as soon as it is there.
    versions("promote", model / str(old))
    print("training the next version, two minutes or less", flush=True)
    new = train_next(model, transactions.simulate(8_000, seed=11))

    versions("shadow", model / str(new))
    wait_for(service, model.name, lambda said: said["shadow"] == str(new))
    before = {version: seen(service, model.name, version) for version in (old, new)}
    send(service, model.name, transactions.simulate(4_000, seed=12).drop_columns([transactions.LABEL]))
    found = {version: seen(service, model.name, version).since(before[version]) for version in (old, new)}
    for version, each in found.items():
        print(f"version {version}: {each}")

    if not alike(found[old], found[new]):
        raise SystemExit(f"version {new} is not promoted: look first at why it flags so many more or fewer")
    versions("promote", model / str(new))
    wait_for(service, model.name, lambda said: said["version"] == str(new))
    print(f"{url} answers by version {new}")

    # As if somebody had complained; one command, and no request is lost.
    versions("rollback", model)
    wait_for(service, model.name, lambda said: said["version"] == str(old))
    print(f"{url} answers by version {old} again")
    versions("list", model.parent)


if __name__ == "__main__":
    main(*sys.argv[1:])
