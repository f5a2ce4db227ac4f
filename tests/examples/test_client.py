"""The client: what it prints, one answer whatever the format, what it waits for, what it is refused."""

import shutil
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from examples import client
from examples.client import Client, RefusedError
from tests.conftest import NAME, running
from training.data import transactions

PAYMENTS = transactions.simulate(300, seed=5).drop_columns([transactions.LABEL])


def test_it_runs_as_it_stands(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    client.main(server)
    first, *why, refused = capsys.readouterr().out.splitlines()
    assert first.startswith("20,000 payments in ")
    assert len(why) == 3
    assert all(line.startswith("p = 0.00") and ", expected " in line for line in why)
    assert refused == "422 invalid-request: /records/1/amont: no such field"


def test_json_and_arrow_have_one_answer(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ROWS", 128)
    with Client(server, model=NAME) as asked:
        by_json = asked.score(PAYMENTS.to_pylist(), false_alarm_rate=0.1)
        by_arrow = asked.score_table(PAYMENTS, false_alarm_rate=0.1)
    flags = [result["is_anomaly"] for result in by_json]
    assert by_arrow["is_anomaly"].to_pylist() == flags
    assert 0 < sum(flags) < len(flags)
    scores = [result["anomaly_score"] for result in by_json]
    np.testing.assert_allclose(by_arrow["anomaly_score"].to_numpy(), scores, atol=1e-5)


def test_it_waits_until_a_model_is_there(models: Path, tmp_path: Path) -> None:
    empty = tmp_path / "models"
    empty.mkdir()
    with running(empty) as (_, url):
        with Client(url, patience=0.0) as hasty, pytest.raises(RefusedError, match="503 not-ready") as refused:
            hasty.score(PAYMENTS.slice(0, 1).to_pylist())
        assert refused.value.problem["status"] == 503

        def come() -> None:
            time.sleep(0.5)
            shutil.copytree(models / NAME, tmp_path / "coming")
            (tmp_path / "coming").rename(empty / NAME)

        coming = threading.Thread(target=come)
        coming.start()
        with Client(url) as patient:
            results = patient.score(PAYMENTS.slice(0, 2).to_pylist(), explain=True)
        coming.join()
    assert len(results) == 2
    assert results[0]["explanation"]["fields"]


def test_it_waits_as_long_as_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue is nothing that a test can arrange, so that its answers stand here."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    full = httpx.Response(429, headers={"Retry-After": "2"}, json={})
    leaving = httpx.Response(503, headers={"Retry-After": "1"}, json={})
    answers = iter([full, leaving, httpx.Response(200, json={"results": [{"p_value": 0.5}]})])
    with Client("http://service") as asked:
        asked._http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(lambda _: next(answers)))
        assert asked.score([{"amount": 1.0}]) == [{"p_value": 0.5}]
    assert len(slept) == 2
    assert 2.0 <= slept[0] <= 3.0
    assert 1.0 <= slept[1] <= 1.5
