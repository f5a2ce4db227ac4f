"""The site: it builds strictly and without a network, and its Reference names all that a person can use."""

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
import yaml
from typer.core import TyperGroup

import surprisal
from docs import site as site_pages
from service.settings import Settings
from service.telemetry import metric_table
from service.wire.problems import STATUS
from surprisal.cli.main import app
from tests.test_deploy import variable
from training.config import TrainingConfig

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def text(page: Path) -> str:
    """A page's words, without its tags."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def names_of_commands(path: str, group: TyperGroup) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from names_of_commands(f"{path} {name}", command)
        else:
            yield f"{path} {name}"
            yield from (each for option in command.params for each in option.opts if each.startswith("--"))


def test_the_reference_names_every_command_and_flag(site: Path) -> None:
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    page = text(site / "reference" / "command-line" / "index.html")
    names = [name for name in names_of_commands("surprisal", top) if name != "--help"]
    assert len(names) > 50
    assert [name for name in names if name not in page] == []


def test_the_reference_names_every_setting_metric_and_error(site: Path) -> None:
    pages = {name: text(site / "reference" / name / "index.html") for name in ("settings", "metrics", "errors")}
    wanted = {
        "settings": [variable(name) for name in Settings.model_fields],
        "metrics": [row.exposed for row in metric_table.EVERY],
        "errors": [error.slug for error in STATUS],
    }
    for name, every in wanted.items():
        assert len(every) > 10
        assert [each for each in map(str, every) if each not in pages[name]] == [], name


@pytest.mark.parametrize("path", site_pages.made(), ids=lambda path: path.stem)
def test_pages_made_from_the_code_are_as_it_is(path: Path) -> None:
    """`scripts/docs` writes them."""
    assert path.read_text(encoding="utf-8") == site_pages.made()[path].rstrip() + "\n"


def test_every_alert_has_its_heading(site: Path) -> None:
    page = text(site / "runbook" / "index.html")
    for file in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                assert rule.get("alert", "") in page


def test_the_reference_names_every_key_of_the_configuration_and_says_something_of_it(site: Path) -> None:
    page = text(site / "reference" / "configuration" / "index.html")
    schema = TrainingConfig.model_json_schema()
    trees = [schema, *(tree for tree in schema["$defs"].values() if "properties" in tree)]
    keys = [(name, key) for tree in trees for name, key in tree["properties"].items()]
    assert len(keys) > 40
    assert [name for name, _ in keys if name not in page] == []
    said = [name for name, key in keys if "$ref" not in key and not key.get("description")]
    assert said == [], "without a description"


def test_the_reference_names_every_public_name_and_path(site: Path) -> None:
    page = text(site / "reference" / "python" / "index.html")
    assert [name for name in surprisal.__all__ if name not in page] == []
    page = text(site / "reference" / "http-api" / "index.html")
    for path in ("/score", "/models", "/metrics", "/healthz", "/readyz", "/v2"):
        assert path in page


def test_nothing_of_the_site_is_fetched_from_elsewhere(site: Path) -> None:
    elsewhere = r"""=["']?(?:https?:)?//"""
    loaded = re.compile(
        rf"""<(?:script|img|iframe|source)[^>]+src{elsewhere}|<link[^>]+rel=["']?(?:stylesheet|pre\w+)[^>]+href{elsewhere}"""
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not loaded.search(page.read_text(encoding="utf-8")), page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:|@import", style.read_text(encoding="utf-8")), style
