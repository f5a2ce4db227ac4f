"""A client of the service: JSON for a few records, an Arrow stream for many rows.

In one terminal, start a service that you can ask:

    scripts/demo

In another, ask it. The last argument is the address of another service, if you have one:

    .venv/bin/pip install -c constraints.txt httpx
    .venv/bin/python examples/client.py http://127.0.0.1:8000
"""

import random
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import pyarrow as pa

from training.data import transactions

ARROW = "application/vnd.apache.arrow.stream"
ROWS = 5_000
"""Rows in a request of Arrow; the service takes 10 000, unless it is told otherwise."""


class RefusedError(Exception):
    """The service said no, and why: its problem document (RFC 9457).

    Args:
        problem: `type` is the error's short name, `errors` has a JSON pointer to each value that does not fit.
    """

    def __init__(self, problem: dict[str, Any]) -> None:
        faults = [f"{each['pointer']}: {each['detail']}" for each in problem.get("errors", ())]
        super().__init__(f"{problem['status']} {problem['type']}: {'; '.join(faults) or problem['detail']}")
        self.problem = problem


class Client:
    """Asks one model for scores; keeps its connection, so use one client for many requests.

    Args:
        url: Where the service is.
        model: The model's name; without it, the service's default model answers.
        key: An API key, where the service asks for one.
        patience: Seconds to go on asking a service that is too busy, or not ready yet.
    """

    def __init__(self, url: str, model: str | None = None, key: str | None = None, patience: float = 60.0) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=30.0)
        self._path = "/score" if model is None else f"/models/{model}/score"
        self._patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def score(self, records: Sequence[dict[str, Any]], **asked: Any) -> list[dict[str, Any]]:
        """Score a few records.

        Args:
            records: Objects by field name; a field that is left out is missing.
            asked: `samples`, `score`, `false_alarm_rate`, `explain`: what differs from the model's own answer.

        Returns:
            A result a record, in order.

        Raises:
            RefusedError: A value does not fit, or the service is still busy when the patience is over.
        """
        results: list[dict[str, Any]] = self._post(json={"records": list(records), **asked}).json()["results"]
        return results

    def score_table(self, table: pa.Table, **asked: Any) -> pa.Table:
        """Score many rows, some thousand a request.

        Args:
            table: A column a field, and no other columns.
            asked: As of `score`.

        Returns:
            A row a row, in order.

        Raises:
            RefusedError: As of `score`.
        """
        answers = []
        for start in range(0, table.num_rows, ROWS):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table.slice(start, ROWS))
            body = sink.getvalue().to_pybytes()
            answer = self._post(content=body, params=asked, headers={"Content-Type": ARROW, "Accept": ARROW})
            answers.append(pa.ipc.open_stream(answer.content).read_all())
        return pa.concat_tables(answers)

    def _post(self, **request: Any) -> httpx.Response:
        deadline = time.monotonic() + self._patience
        while True:
            answer = self._http.post(self._path, **request)
            if answer.is_success:
                return answer
            # 429: the queue is full. 503: no model is loaded yet, or the service is going away.
            wait = random.uniform(1.0, 1.5) * float(answer.headers.get("Retry-After", "inf"))
            if time.monotonic() + wait > deadline:
                raise RefusedError(answer.json())
            time.sleep(wait)


def main(url: str = "http://127.0.0.1:8000") -> None:
    """Ask for scores in every way that this file has.

    Args:
        url: Where the service is.
    """
    payments = transactions.simulate(20_000, seed=3).drop_columns([transactions.LABEL])
    with Client(url, model="transactions") as client:
        began = time.monotonic()
        scores = client.score_table(payments, false_alarm_rate=0.001)
        flagged = payments.filter(scores["is_anomaly"])
        print(f"{len(payments):,} payments in {time.monotonic() - began:.1f} s, {len(flagged)} flagged at 0.1 %")

        # An explanation costs ten times a score, so ask for those alone that somebody will read.
        for result in client.score(flagged.slice(0, 3).to_pylist(), explain=True):
            first = result["explanation"]["fields"][0]
            expected = f"{first['expected']:.4g}" if isinstance(first["expected"], float) else first["expected"]
            print(f"p = {result['p_value']:.4f}: {first['field']} is {first['value']}, expected {expected}")

        try:
            client.score([{"amount": "a lot", "hour": 3}, {"amont": 12.5}])
        except RefusedError as error:
            print(error)


if __name__ == "__main__":
    main(*sys.argv[1:])
