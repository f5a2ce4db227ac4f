"""Whether versions can change for ever under load: no failed request, no mixed answer, no memory that grows.

    python benchmarks/reload.py [--changes 200] [--workers 2] [--models FOLDER]

64 clients score without a pause while one of two versions is promoted, the other rolled back to, and so on. Each answer
names its version in its body and in its head and must have that version's score.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

# As a script, its neighbour training.py would stand in for the package of that name.
sys.path[0] = str(Path(__file__).parents[1])

import httptools
import orjson
from rich.console import Console

from benchmarks.serving import client, servers
from benchmarks.serving.client import on_the_wire
from benchmarks.serving.formats import json_arrays
from benchmarks.serving.heading import heading
from benchmarks.serving.model import NAME, in_fresh_process, prepared, simulate, train
from benchmarks.serving.report import MEBIBYTE, show, titled
from benchmarks.serving.servers import HOST, Server, free_port
from bundle.folder import registry, store
from service.engine import cpus

CLIENTS = 64
FOLLOWED_SECONDS = 1.5  # until every worker has seen a change
SETTLED = 20  # changes after which memory is expected to stay
Seen = Counter[tuple[int, str, str, float]]
"""Answers by status, version of the head, version of the body, and score."""


class Reader:
    """Reads one answer after another from a connection."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.version, self.body, self.complete = "", b"", False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if name == b"surprisal-version":
            self.version = value.decode()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self.body += body

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.complete = True


async def ask_on(port: int, content: bytes, seen: Seen, stop: asyncio.Event) -> None:
    """One client: ask until told to stop, on a connection that is kept."""
    reading, writing = await asyncio.open_connection(HOST, port)
    while not stop.is_set():
        writing.write(content)
        answer = Reader()
        while not answer.complete:
            piece = await reading.read(2**16)
            if not piece:
                raise ConnectionResetError("a connection was closed under load")
            answer.parser.feed_data(piece)
        status = answer.parser.get_status_code()
        said = orjson.loads(answer.body)
        if status == 200:
            # Batches of other sizes differ in the last bits.
            score = round(said["results"][0]["anomaly_score"], 2)
            seen[status, answer.version, said["model"]["version"], score] += 1
        else:
            seen[status, answer.version, said["type"], 0.0] += 1
    writing.close()


def two_versions(models: Path | None, scratch: Path) -> Path:
    """A models folder with versions 1 and 2, of which 1 is served: a copy of the given one, or trained now."""
    if models is None:
        prepared(None, scratch)
        in_fresh_process(train, scratch, epochs=1)
    else:
        shutil.copytree(models, scratch)
    if store.versions(scratch, NAME) != [1, 2]:
        raise SystemExit(f"{models}: {NAME!r} should have the versions 1 and 2")
    registry.promote(scratch, NAME, 1)
    return scratch


async def change(server: Server, models: Path, changes: int) -> tuple[Seen, list[int]]:
    """Promote and roll back under load; what was answered, and the memory after each change."""
    content = on_the_wire(json_arrays(simulate(1, seed=5)), HOST)
    seen: Seen = Counter()
    memory: list[int] = []
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(ask_on(server.port, content, seen, stop))
        for number in range(changes):
            if number % 2:
                await asyncio.to_thread(registry.rollback, models, NAME)
            else:
                await asyncio.to_thread(registry.promote, models, NAME, 2)
            await asyncio.sleep(FOLLOWED_SECONDS)
            memory.append(server.memory())
        stop.set()
    return seen, memory


def main() -> None:
    """Print the tables; exit code 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=200, help=f"above {SETTLED} (default 200)")
    parser.add_argument("--workers", type=int, default=cpus.available(), help="of the product (default: the cores)")
    parser.add_argument("--models", type=Path, help="folder of two versions from an earlier run; else trained now")
    parser.add_argument("--port", type=int, default=8700)
    arguments = parser.parse_args()
    if arguments.changes <= SETTLED:
        parser.error(f"--changes must be above {SETTLED}")
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(heading(), soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        models = two_versions(arguments.models, scratch / "models")
        with Server(servers.surprisal(models, arguments.workers), free_port(arguments.port), scratch) as server:
            seen, memory = client.run(change(server, models, arguments.changes))
    table = titled(f"{CLIENTS} clients, {arguments.changes} changes", "status", "head", "body", "score", "answers")
    for (status, head, body, score), number in sorted(seen.items()):
        table.add_row(str(status), head, body, f"{score:.2f}", f"{number:,}")
    memories = titled("Memory of all processes", "after changes", "MiB", f"against {SETTLED}")
    settled = memory[SETTLED - 1]
    for number in sorted({1, SETTLED, *range(50, len(memory) + 1, 50), len(memory)}):
        size = memory[number - 1]
        memories.add_row(str(number), f"{size / MEBIBYTE:.1f}", f"{size / settled - 1:+.1%}")
    largest = max(memory[SETTLED:])
    memories.add_row("largest", f"{largest / MEBIBYTE:.1f}", f"{largest / settled - 1:+.1%}")
    show(console, table, memories)
    good = all(status == 200 and head == body for status, head, body, _ in seen) and len(seen) == 2
    console.print("good" if good else "NOT GOOD")
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
