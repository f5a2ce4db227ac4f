"""Neither a worker nor the supervisor loads anything that it has no use for."""

import importlib.util
import subprocess
import sys
from pathlib import Path

SUPERVISED = """
import sys
from service.process import supervisor
from surprisal.cli.main import main
supervisor.run = lambda settings, workers: 0
sys.argv = ["surprisal", "serve", "--models", sys.argv[1]]
try:
    main()
except SystemExit as end:
    assert not end.code
scoring = {"numpy", "pyarrow", "fastapi", "onnxruntime", "uvicorn", "prometheus_client", "torch", "pandas"}
print(sorted(scoring & sys.modules.keys()))
"""


def test_a_worker_loads_no_pandas_where_it_is_installed() -> None:
    assert importlib.util.find_spec("pandas") is not None
    code = "import sys, service.process.worker, pyarrow; pyarrow.array([1]); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_supervisor_loads_nothing_that_scores(tmp_path: Path) -> None:
    """NumPy alone would take as long as all that it loads: no worker is started before."""
    command = [sys.executable, "-c", SUPERVISED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
