"""Versions that should never be served, and arrive while the service serves a good one."""

import hashlib
import io
import json
import os
import shutil
import socket
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.attack import graphs
from benchmarks.attack.case import JSON, MODEL, RECORD, Act, Case
from benchmarks.attack.exchange import NO_ANSWER, Request, ask
from benchmarks.attack.server import Server

REFUSED_SECONDS = 30.0
"""Within which a version is refused by name, and another is loaded."""
_OTHER = "other"
_POLL_SECONDS = 0.1
_BIT = 0x10

Change = Callable[[Path], None]
"""Spoils the folder of a version."""


def rewritten(folder: Path, files: Mapping[str, bytes], **facts: Any) -> None:
    """Replace files of a version, and facts of its manifest, and make every digest right again."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name, content in files.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(content)
        manifest["files"][name] = hashlib.sha256(content).hexdigest()
    manifest.update(facts)
    manifest["digest"] = "0" * 64
    document = orjson.dumps(manifest)
    digest = hashlib.sha256(document).hexdigest().encode()
    (folder / "manifest.json").write_bytes(document.replace(b"0" * 64, digest, 1))


def _graph(change: Callable[[bytes], bytes], folder: Path) -> None:
    rewritten(folder, {"scorer.onnx": change((folder / "scorer.onnx").read_bytes())})


def _external(tag: str, folder: Path) -> None:
    secret = folder.parents[1] / "secret.bin"
    secret.write_bytes(np.full(4096, 0.123, np.float32).tobytes())
    _graph(lambda graph: graphs.external(graph, secret, graphs.TAGS[tag]), folder)


def _in_place_of(name: str, make: Callable[[Path], None], folder: Path) -> None:
    (folder / name).unlink()
    make(folder / name)


def _socket(place: Path) -> None:
    here = Path.cwd()
    os.chdir(place.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(place.name)
    finally:
        os.chdir(here)


def _sparse(size: int, place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(size)


def _flipped(folder: Path) -> None:
    content = bytearray((folder / "scorer.onnx").read_bytes())
    content[len(content) // 2] ^= _BIT
    (folder / "scorer.onnx").write_bytes(content)


def _zip_of_zeros(folder: Path) -> None:
    file, head = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (600_000_000,)})
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("elbo-1.npy", "w") as member:
        member.write(head.getvalue())
        for _ in range(600):
            member.write(bytes(4_000_000))
    rewritten(folder, {"calibration.npz": file.getvalue()})


def _noise_of(shape: tuple[int, ...], folder: Path) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    rewritten(folder, {"noise.npy": head.getvalue()})


def _golden(content: bytes, folder: Path) -> None:
    rewritten(folder, {"golden.json": content})


def _manifest(content: bytes, folder: Path) -> None:
    (folder / "manifest.json").write_bytes(content)


_SPECIAL: dict[str, Callable[[Path], None]] = {
    "a FIFO": os.mkfifo,
    "a socket": _socket,
    "a folder": Path.mkdir,
    "/dev/zero": lambda place: place.symlink_to("/dev/zero"),
    "a link to itself": lambda place: place.symlink_to(place),
    "a link out": lambda place: place.symlink_to("/etc/passwd"),
    "a sparse file of 4 GiB": partial(_sparse, 2**32),
}
CHANGES: dict[str, Change] = {
    "a bit flipped": _flipped,
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "a graph that loops": partial(_graph, graphs.loops),
    "a graph that takes 2 GB": partial(_graph, graphs.allocates),
    "a graph that expands to 2 GB": partial(_graph, graphs.expands),
    "a foreign operator": partial(_graph, graphs.foreign),
    "a nested graph": partial(_graph, graphs.deep),
    "a graph of zeros": partial(_graph, lambda graph: bytes(len(graph))),
    **{f"external data, {tag} tags": partial(_external, tag) for tag in graphs.TAGS},
    **{
        f"{called} as {name}": partial(_in_place_of, name, make)
        for name in ("scorer.onnx", "manifest.json", "noise.npy")
        for called, make in _SPECIAL.items()
    },
    "calibration of 2.4 GB": _zip_of_zeros,
    "noise of 2^48": partial(_noise_of, (256, 2**40)),
    "no noise": partial(_noise_of, (0, 8)),
    "deep golden records": partial(_golden, b'{"cases":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "many golden records": partial(_golden, b'{"cases":[' + b"{}," * 10_000_000 + b"{}]}"),
    "no golden record": partial(_golden, b'{"cases":[],"explained":[]}'),
    "a deep manifest": partial(_manifest, b"[" * 3_000_000),
    "an empty manifest": partial(_manifest, b""),
}
"""What is wrong with a version, and how it comes to be."""


def arrive(change: Change, server: Server) -> Iterator[int | str]:
    """Let a spoilt version arrive, then another model; how soon the one is refused and the other served."""
    folder = server.models / MODEL
    (new := folder / ".2").mkdir()
    for file in (folder / "1").iterdir():
        shutil.copy(file, new / file.name)
    change(new)
    new.rename(folder / "2")
    shutil.copytree(folder / "1", server.models / ".other" / "1")
    (server.models / ".other").rename(server.models / _OTHER)
    started = time.monotonic()
    refused = loaded = None
    answers = set()
    while (passed := time.monotonic() - started) < REFUSED_SECONDS and (refused is None or loaded is None):
        time.sleep(_POLL_SECONDS)
        answers.add(_score(server, RECORD))
        told = ask(server.port, Request("/models", method="GET"), timeout=5)
        if told.status != 200:
            continue
        listed = json.loads(told.body)
        if refused is None and MODEL in str(listed["refused"]):
            refused = passed
        if loaded is None and any(each["name"] == _OTHER for each in listed["models"]):
            loaded = passed
    yield "not refused" if refused is None else f"refused after {refused:.1f} s"
    yield "the other model not loaded" if loaded is None else f"the other model loaded after {loaded:.1f} s"
    yield from sorted(answers)
    unloaded = ask(server.port, Request(f"/v2/repository/models/{_OTHER}/unload"), timeout=10)
    yield f"unload {unloaded.status}"


def _score(server: Server, record: Mapping[str, object], timeout: float = 10.0) -> int:
    request = Request(f"/models/{MODEL}/score", {"Content-Type": JSON}, orjson.dumps({"records": [record]}))
    return ask(server.port, request, timeout=timeout).status


def _arrives(name: str, change: Change, workers: int) -> Case:
    def prepare() -> Act:
        return partial(arrive, change)

    return Case(f"bundle: {name}", prepare, workers)


def _trigger(server: Server) -> Iterator[int | str]:
    folder = server.models / MODEL
    (new := folder / ".2").mkdir()
    for file in (folder / "1").iterdir():
        shutil.copy(file, new / file.name)
    _graph(graphs.loops_on_a_record, new)
    new.rename(folder / "2")
    ends = time.monotonic() + REFUSED_SECONDS
    while time.monotonic() < ends and b'"version":2' not in ask(server.port, Request("/models", method="GET")).body:
        time.sleep(_POLL_SECONDS)
    for turn in range(3):
        yield f"trigger {_score(server, {**RECORD, 'amount': graphs.TRIGGER}, timeout=30.0)}"
        started = time.monotonic()
        while (status := _score(server, RECORD, timeout=5.0)) != 200 and time.monotonic() - started < REFUSED_SECONDS:
            time.sleep(_POLL_SECONDS)
        well = f"well again after {time.monotonic() - started:.1f} s"
        yield well if status == 200 else f"not well after {REFUSED_SECONDS:.0f} s ({status or NO_ANSWER}), turn {turn}"


CASES: tuple[Case, ...] = (
    *(_arrives(name, change, 1 + number % 2) for number, (name, change) in enumerate(CHANGES.items())),
    Case("bundle: a graph that loops on a record", lambda: _trigger, 1),
)
