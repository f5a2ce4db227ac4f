"""Closed-loop load by wrk: so many connections, each asking again as soon as it has its answer."""

import dataclasses
import json
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.formats import Request

TIMEOUT_SECONDS = 30

SCRIPT = """
local file = assert(io.open({body}, "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
{headers}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{{"requests": %d, "seconds": %f, "refused": %d, "broken": %d, "late": %d, "p50": %f, "p99": %f, "p999": %f}}\\n',
    summary.requests, summary.duration / 1e6,
    errors.status, errors.connect + errors.read + errors.write, errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3))
end
"""


@dataclass(frozen=True)
class Load:
    """What came back; rates are of good answers, latencies of all answers.

    Args:
        requests_per_second: Answered with a status below 400.
        records_per_second: In those.
        p50: Milliseconds; `p99` and `p999` likewise.
        refused: Share of the answers with a status of 400 or more.
        broken: Connections that could not be made, read or written.
        late: Requests without an answer in time.
    """

    requests_per_second: float
    records_per_second: float
    p50: float
    p99: float
    p999: float
    refused: float
    broken: float
    late: float

    @property
    def failed(self) -> float:
        """Requests without any answer, for either reason."""
        return self.broken + self.late


def require_wrk() -> None:
    """Check that wrk is there.

    Raises:
        SystemExit: It is not.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: it stands in most package archives, and on github.com/wg/wrk")


def closed_loop(address: str, request: Request, concurrency: int, seconds: float, scratch: Path) -> Load:
    """Send one request over and over.

    Args:
        address: Of the server.
        request: The same bytes each time, which no server here takes advantage of.
        concurrency: Connections, on one thread of wrk.
        seconds: How long, rounded up.
        scratch: Folder for wrk's script and the body.
    """
    body, script = scratch / "body", scratch / "load.lua"
    body.write_bytes(request.body)
    headers = "\n".join(f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in request.headers.items())
    script.write_text(SCRIPT.format(body=_lua(str(body)), headers=headers))
    options = ["-t1", f"-c{concurrency}", f"-d{-int(-seconds // 1)}s", f"--timeout={TIMEOUT_SECONDS}s"]
    run = subprocess.run(
        ["wrk", *options, "-s", str(script), address + request.path], capture_output=True, text=True, check=True
    )
    told = json.loads(run.stdout.splitlines()[-1])
    rate = (told["requests"] - told["refused"]) / told["seconds"]
    refused = told["refused"] / max(told["requests"], 1)
    measured = {name: told[name] for name in ("p50", "p99", "p999", "broken", "late")}
    return Load(rate, rate * request.records, refused=refused, **measured)


def median(loads: Sequence[Load]) -> Load:
    """Of each figure by itself."""
    names = [field.name for field in dataclasses.fields(Load)]
    return Load(**{name: statistics.median(getattr(load, name) for load in loads) for name in names})


def _lua(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
