"""Imported before all else in a worker: keeps out what other packages would load for nothing.

pyarrow loads pandas wherever that is installed. A worker has no frames; pandas takes it 0.4 s of its start and 40 MiB.
"""

import sys
from importlib.abc import MetaPathFinder


class _WithoutPandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("a worker has no use for pandas", name=fullname)


sys.meta_path.insert(0, _WithoutPandas())
