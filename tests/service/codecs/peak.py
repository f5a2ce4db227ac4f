"""Decodes bodies, each in a process of its own, and says how much memory the worst moment took; see `test_bounds.py`.

Reads pickled jobs from its input, (folder of a version, route, body, header of `infer`, most records), and writes for
each what came of it: the bound or the refusal, the peak in bytes beyond what was there before, and how decoding ended.
"""

import gc
import os
import pickle
import resource
import sys
from pathlib import Path
from typing import Any

from bundle.contents.manifest import Manifest
from bundle.folder import store
from service.codecs import arrow, csv, json, ndjson
from service.engine.question import Question
from service.errors import ServiceError
from service.openinference import request

MOST = 6 * 2**30
"""Bytes of address space: what takes more ends, and the machine goes on."""

Job = tuple[Path, str, bytes, bytes | None, int]
Outcome = tuple[int | str, int, str]
CODECS: dict[str, Any] = {"json": json, "ndjson": ndjson, "csv": csv, "arrow": arrow}


def main() -> None:
    manifests: dict[Path, Manifest] = {}
    jobs, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            job: Job = pickle.load(jobs)
        except EOFError:
            return
        folder = job[0]
        if folder not in manifests:
            manifests[folder] = store.load(folder.parents[1], folder.parent.name, int(folder.name)).manifest
        pickle.dump(_apart(manifests[folder], job), answers)
        answers.flush()


def _apart(manifest: Manifest, job: Job) -> Outcome:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_AS, (MOST, MOST))
        with os.fdopen(writing, "wb") as answer:
            pickle.dump(_measured(manifest, job), answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(said) if said else (f"ended with {status}", MOST, "died")


def _measured(manifest: Manifest, job: Job) -> Outcome:
    _, route, body, header, most = job
    # What the libraries themselves load the first time is no body's.
    for warm in ("json", "ndjson", "csv", "arrow"):
        _decode(manifest, warm, WARM[warm], None, most)
    gc.disable()
    try:
        if route == "infer":
            bound: int | str = request.bound(body, header, manifest, most)
        else:
            bound = CODECS[route].bound(body, manifest, most)
    except ServiceError as error:
        bound = error.slug
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    ended = _decode(manifest, route, body, header, most)
    return bound, _status("VmHWM") - before, ended


def _decode(manifest: Manifest, route: str, body: bytes, header: bytes | None, most: int) -> str:
    try:
        if route == "infer":
            request.decode(body, header, manifest, most, Question.usual(manifest))
        else:
            CODECS[route].decode(body, manifest, most, Question.usual(manifest))
    except ServiceError as error:
        return error.slug
    return "decoded"


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def _warm() -> dict[str, bytes]:
    from io import BytesIO

    import pyarrow as pa

    columns = {
        "amount": [1.0] * 50,
        "country": pa.array(["PL"] * 50),
        "channel": pa.array(["x"] * 50).dictionary_encode(),
        "card_present": [True] * 50,
    }
    table = pa.table(columns)
    target = BytesIO()
    with pa.ipc.new_stream(target, table.schema) as writer:
        writer.write_table(table)
    return {
        "json": b'{"records":[' + b'{"amount":1.5,"country":"PL"},' * 50 + b'{"amount":1}]}',
        "ndjson": b'{"amount":1.5,"country":"PL"}\n' * 50,
        "csv": b"amount,country,card_present\n" + b"1.5,PL,true\n" * 50 + b"x,PL,true\n",
        "arrow": target.getvalue(),
    }


WARM = _warm()


if __name__ == "__main__":
    main()
