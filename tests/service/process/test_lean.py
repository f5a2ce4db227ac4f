"""A worker loads nothing that it has no use for."""

import importlib.util
import subprocess
import sys


def test_a_worker_loads_no_pandas_where_it_is_installed() -> None:
    assert importlib.util.find_spec("pandas") is not None
    code = "import sys, service.process.worker, pyarrow; pyarrow.array([1]); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
