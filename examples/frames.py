"""Data frames in, data frames out: pandas and polars, without a service and through one.

In one terminal, start a service that you can ask:

    scripts/demo

In another:

    .venv/bin/pip install -c constraints.txt httpx pandas polars
    .venv/bin/python examples/frames.py demo/models/transactions http://127.0.0.1:8000
"""

import sys

import httpx
import pandas as pd
import polars as pl
import pyarrow as pa

import surprisal
from training.data import transactions

ARROW = "application/vnd.apache.arrow.stream"


def scored(frame: pd.DataFrame, model: surprisal.Model) -> pd.DataFrame:
    """A pandas frame with its scores beside it, computed here.

    Args:
        frame: A column a field; other columns are passed over.
        model: What `surprisal.load` gave.
    """
    scores = model.score(frame, explain=True).to_pandas()
    return frame.join(scores.set_index(frame.index))


def scored_in_polars(frame: pl.DataFrame, model: surprisal.Model) -> pl.DataFrame:
    """The same of a polars frame."""
    scores = pl.DataFrame(model.score(frame, explain=True))
    return frame.hstack(scores)


def scored_by_service(frame: pd.DataFrame, url: str, model: str) -> pd.DataFrame:
    """A pandas frame with its scores beside it, computed by a service.

    Args:
        frame: At most 10 000 rows; client.py sends more. Columns that are no fields stay here, as the service refuses
            them.
        url: Where the service is.
        model: The model's name.

    Raises:
        httpx.HTTPStatusError: The service refuses the request; the text of its answer says why.
    """
    with httpx.Client(base_url=url, timeout=30.0) as service:
        fields = [field["name"] for field in service.get(f"/models/{model}").raise_for_status().json()["fields"]]
        table = pa.Table.from_pandas(frame[fields], preserve_index=False)
        body = pa.BufferOutputStream()
        with pa.ipc.new_stream(body, table.schema) as stream:
            stream.write_table(table)
        arrow = {"Content-Type": ARROW, "Accept": ARROW}
        answer = service.post(f"/models/{model}/score", content=body.getvalue().to_pybytes(), headers=arrow)
    scores = pa.ipc.open_stream(answer.raise_for_status().content).read_all().drop_columns(["latent_mean"])
    return frame.join(scores.to_pandas().set_index(frame.index))


def main(path: str = "demo/models/transactions", url: str = "http://127.0.0.1:8000") -> None:
    """Score one frame in three ways, and see that the scores are the same.

    Args:
        path: models/NAME of a model that is served at the address.
        url: Where the service is.
    """
    model = surprisal.load(path)
    payments = transactions.simulate(2_000, seed=4).to_pandas()
    payments.index = pd.date_range("2026-01-01", periods=len(payments), freq="min", name="paid")

    here = scored(payments, model)
    strangest = here.sort_values("anomaly_score", ascending=False).head(5)
    why = {"explanation_1_field": "because of", "explanation_1_value": "value", "explanation_1_expected": "expected"}
    print(strangest.rename(columns=why)[["fraud", "p_value", *why.values()]].to_string())

    there = scored_by_service(payments, url, model.name)
    print(f"largest difference to the service: {(here['anomaly_score'] - there['anomaly_score']).abs().max():.1e}")

    by_kind = (
        scored_in_polars(pl.from_pandas(payments), model)
        .group_by("fraud")
        .agg(pl.len().alias("payments"), pl.col("is_anomaly").mean().alias("flagged"))
        .sort("flagged", descending=True)
    )
    print(by_kind)


if __name__ == "__main__":
    main(*sys.argv[1:])
