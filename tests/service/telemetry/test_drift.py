"""Records are counted by field and bin, each once, wherever their batch ran."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from bundle.contents.reference import FieldBins
from bundle.record.records import encode_records
from service.front.app import Application
from service.settings import Settings
from tests.conftest import NAME, in_process
from tests.service.telemetry.test_metrics import Samples, key, samples
from training.pipeline import Trained

MODEL = {"model": NAME, "version": "1"}


def binned(found: Samples) -> dict[tuple[str, str], float]:
    """The counts by field and bin."""
    return {
        (dict(labels)["field"], dict(labels)["bin"]): value
        for (name, labels), value in found.items()
        if name == "surprisal_field_bin_total"
    }


async def test_every_bin_is_there_before_the_first_record(client: httpx.AsyncClient, trained: Trained) -> None:
    found = await samples(client)
    bins = FieldBins(trained.manifest.record, trained.manifest.reference)
    assert binned(found) == dict.fromkeys(bins.labels, 0.0)
    places = (f"{place:06d}" for place in range(len(bins.labels)))
    for each in trained.manifest.reference:
        for name, ratio in zip(each.bins, each.ratios, strict=True):
            labels = {"field": each.field, "bin": name, "place": next(places)}
            assert found[key("field_reference_ratio", **labels, **MODEL)] == ratio
        assert found[key("missing_total", field=each.field, **MODEL)] == 0
    assert found[key("unknown_category_total", field="country", **MODEL)] == 0
    assert key("unknown_category_total", field="amount", **MODEL) not in found
    assert found[key("model_created_timestamp_seconds", **MODEL)] > 1.7e9


@pytest.mark.parametrize("sizes", [[1] * 7, [3000], [1, 2000, 5, 1]])
async def test_each_record_is_counted_once(
    client: httpx.AsyncClient, trained: Trained, payments: list[dict[str, Any]], sizes: list[int]
) -> None:
    strange = {"country": "atlantis", "amount": 1e9}
    records = [strange, *payments, *payments, *payments]
    sent: list[dict[str, Any]] = []
    for size in sizes:
        sent += records[:size]
        assert (await client.post("/score", json={"records": records[:size], "samples": 1})).status_code == 200
    found = await samples(client)
    bins = FieldBins(trained.manifest.record, trained.manifest.reference)
    expected = bins.count(encode_records(trained.manifest.record, sent))
    assert binned(found) == dict(zip(bins.labels, expected.tolist(), strict=True))
    assert found[key("unknown_category_total", field="country", **MODEL)] == sum(1 for size in sizes if size)
    assert found[key("missing_total", field="channel", **MODEL)] == binned(found)["channel", "(missing)"] > 0
    assert np.isclose(sum(binned(found).values()), sum(sizes) * len(trained.manifest.record.names))


async def test_counts_of_a_version_that_goes_are_kept(models: Path) -> None:
    app = Application(Settings(models=models))
    async with app.api.router.lifespan_context(app.api):
        model = app.models.get()
        tensors = encode_records(model.schema, [{"amount": 1.0}])
        await model.score(tensors, model.question, float("inf"))
    assert app.metrics.total("surprisal_missing_total", field="country") == 1


async def test_the_provider_that_is_expected_is_told(models: Path) -> None:
    async with in_process(Settings(models=models, expect_provider="CUDAExecutionProvider")) as (client, _):
        assert (await samples(client))[key("expected_provider_info", provider="CUDAExecutionProvider")] == 1
