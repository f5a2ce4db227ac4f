"""The blocks of code of the README and of the guides run as they stand."""

import json
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
import typer.main
from typer.core import TyperGroup

from surprisal.cli.main import app
from tests.conftest import few_payments, free_port, running, simulate_payments
from tests.docs.blocks import ROOT, Block, Shell, blocks
from training.data import transactions

pytestmark = pytest.mark.slow
GUIDES = sorted((ROOT / "docs").glob("guides/*.md"))
PAGES = [ROOT / "README.md", ROOT / "docs" / "index.md", ROOT / "docs" / "security.md", *GUIDES]
OF_THE_DEMO = "transactions"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader is: with files of payments, as the pages call them."""
    unlabelled = simulate_payments(seed=2).slice(0, 300).drop_columns([transactions.LABEL])
    for name, table in (
        ("payments", few_payments()),
        ("new", unlabelled),
        ("later", simulate_payments(seed=3).slice(0, 600)),
        ("records", unlabelled.slice(0, 20)),
    ):
        pyarrow.csv.write_csv(table, tmp_path / f"{name}.csv")
    lines = (json.dumps(record) + "\n" for record in unlabelled.slice(0, 20).to_pylist())
    (tmp_path / "records.ndjson").write_text("".join(lines))
    return tmp_path


def members(text: str) -> set[str]:
    """The names of the members that a piece of JSON shows."""
    return set(re.findall(r'"(\w+)":', text))


def of_the_demo(shell: Shell, page: Path) -> list[Block]:
    """Run the page's first request, whose answer must have the members that the page shows; what is left of it."""
    mine = list(blocks(page))
    place = next(place for place, block in enumerate(mine) if "curl" in block.code and block.is_run)
    answer, shown = shell.run(mine[place]), mine[place + 1]
    assert shown.language == "json"
    assert members(shown.code) <= members(answer)
    return mine[place + 2 :]


def test_every_block_of_the_readme_runs(folder: Path, models: Path) -> None:
    with running(models) as (_, url):
        left = of_the_demo(Shell(folder, int(url.rpartition(":")[2])), ROOT / "README.md")
    shell = Shell(folder, free_port())
    try:
        ran = [shell.run(block) for block in left if block.is_run and block.language != "json"]
    finally:
        shell.end()
    assert len(ran) >= 4
    assert "surprisal_workers 1.0" in "".join(ran)
    found = pa.csv.read_csv(folder / "review.csv")
    assert 1 <= found.num_rows < 300
    assert {"p_value", "explanation_1_field", "amount"} <= set(found.column_names)
    assert (folder / "models" / "payments" / "1" / "report.html").stat().st_size > 100_000


def test_the_quickstart_answers_as_it_shows(folder: Path, models: Path) -> None:
    with running(models) as (_, url):
        assert of_the_demo(Shell(folder, int(url.rpartition(":")[2])), ROOT / "docs" / "index.md") == []


def test_clients_of_the_guide_to_serving_are_answered(folder: Path, models: Path) -> None:
    with running(models) as (_, url):
        shell = Shell(folder, int(url.rpartition(":")[2]))
        ran = [
            shell.run(block)
            for block in blocks(ROOT / "docs" / "guides" / "serving.md")
            if block.is_run and "surprisal serve" not in block.code
        ]
    assert len(ran) == 3
    assert '"explanation"' in ran[0]
    assert ran[1].count("\n") >= 20
    # The record that the page sends is an ordinary one, whatever the client.
    assert "False" in ran[2]
    assert '"is_anomaly":false' in ran[0].replace(" ", "")


def test_files_of_the_guide_to_scoring_are_written(folder: Path, models: Path) -> None:
    (folder / "models").mkdir()
    (folder / "models" / "payments").symlink_to(models / OF_THE_DEMO)
    shell = Shell(folder, free_port())
    for block in blocks(ROOT / "docs" / "guides" / "scoring-files.md"):
        if block.is_run and block.language != "json":
            shell.run(block)
    assert pa.csv.read_csv(folder / "scored.csv").num_rows == 300
    assert json.loads((folder / "flagged.ndjson").read_text().splitlines()[0]).keys() >= {"row", "amount", "country"}


def commands() -> list[tuple[str, str]]:
    """Every call of `surprisal` in the pages."""
    found = []
    for page in PAGES:
        for block in blocks(page):
            for line in block.code.splitlines() if block.language == "sh" else ():
                called = re.match(r"(?:\w+=\S+ )*(?:surprisal|python -m surprisal) (.*)", line)
                if called:
                    found.append((page.stem, called[1]))
    return found


def test_every_command_in_the_pages_is_one_that_there_is() -> None:
    """Those whose pages are not run as a whole are at least understood."""
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    every = commands()
    assert len(every) > 25
    for page, call in every:
        words = shlex.split(call, comments=True)
        words = words[: words.index(">")] if ">" in words else words
        command = top.commands[words.pop(0)]
        if isinstance(command, TyperGroup):
            command = command.commands[words.pop(0)]
        command.make_context("surprisal", words)
        assert page
