"""Benchmarks run to their end and say what they are there for; the figures are measured elsewhere, not tested."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import small_runs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WRK = {"soak", "counts"}
ELSEWHERE = {"dependent", "pairs", "tabular"}
"""Those with tests of their own, and the simulator that `explanation` runs."""
SAID = {
    "detection": ["All: 2 sets", r"combined +│ \d\.\d{4} │", r"2_far +│ 80 "],
    "contamination": ["10% of the training rows are anomalies", r"1_near +│ +80 │ \d\.\d{4} │"],
    "calibration": [r"Put aside: 2 draws", r"Cross-fitted: 1 refits", r"card payments +│ combined +│ 0\.1000 │ \d"],
    "explanation": [r"median error", r"mean +│ 0?\.?\d"],
    "gpu": [r"served +2 +1 +[\d,]+"],
    "ordinary": [
        "few, seed 0, .* refused: DataInvalid: ",
        r"normal, seed 0, .*\d% of the bound +trained$",
        r"labelled, seed 0, .*\d% of the bound +trained$",
        r"^2 trained, 1 refused; nearest \d+\.\d%",
    ],
    "training": ["ours / bare"],
    "streaming": [
        r"most RssAnon [\d,]+ MiB",
        r"pass 1 .* pass 2 .* pass 3 \(cache\) \d+ s, epoch 1 \d+ s",
        r"streamed / in memory: \d\.\d\d",
        r"streamed - in memory: [-+]\d+\.\d+ nats",
    ],
    "processes": ["hidden 512, batch 4096", r"two processes / one process, two threads: \d+\.\d\d \(from "],
    "combined": [r"graph, one thread +│ +\d", r"POST /score, one worker +│ +\d"],
    "scale": [
        r"local, of ONNX Runtime alone +│ +[\d,]+ │ +\d+\.\d\d │ +[\d,]+ │ +\d+\.\d\d │ +\d+",
        r"Ray, of local +│ +[\d,]+ │ +\d+\.\d\d │ +[\d,]+ │ +\d+\.\d\d │ +\d+",
        "killed with|before it could be killed",
        r"requests to storage: get \d+, head \d+, put 2 a shard; .*list \d+, put 3 a run$",
        r"on paper, 10,000,000,000 rows in 100,000,000 files on 100 machines",
    ],
    "score_file": [r"surprisal score, whole command +│ +[\d,]+ │ +\d\.\d\d", r"peak memory of its process \d+ MiB"],
    "soak": [r"JSON arrays \(200\) +│ +[\d,]+ │ +none", r"no JSON \(400\) +│ +\d+ │ +none", "ask again at once"],
    "counts": [
        "killed between two requests",
        "killed under load",
        r"records +│ +([\d,]+) │ +\1 │ +\+0 ",
        "each second",
    ],
    "reload": [r"200 +│ +1 +│ +1 +│", r"200 +│ +2 +│ +2 +│", "^good$"],
}
"""What each prints, the numbers as patterns; `counts` finds nothing lost where the killed worker was idle."""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each benchmark printed."""
    folder = tmp_path_factory.mktemp("small")
    chosen = [name for name in small_runs.SMALL if name not in WRK or shutil.which("wrk")]
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "small_runs.py"), str(folder), *chosen]
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return {name: Path(folder, f"{name}.txt").read_text() for name in chosen}


@pytest.mark.parametrize("name", small_runs.SMALL)
def test_it_runs_to_its_end_and_prints_its_figures(printed: dict[str, str], name: str) -> None:
    if name in WRK and not shutil.which("wrk"):
        pytest.skip("wrk is not installed")
    said = printed[name]
    assert small_runs.ENDED in said, said
    for pattern in SAID[name]:
        assert re.search(pattern, said, re.MULTILINE), (pattern, said)


def test_none_is_left_out() -> None:
    scripts = {path.stem for path in Path(ROOT, "benchmarks").glob("*.py")}
    assert scripts == small_runs.SMALL.keys() | ELSEWHERE
