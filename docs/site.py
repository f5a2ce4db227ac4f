"""Pages that are made from the code: command line, configuration, HTTP API and metrics; and the site's own.

    python docs/site.py     writes the pages of the first kind, which stand in the repository

MkDocs calls `on_files`, `on_page_markdown` and `on_page_content` (its hooks, see mkdocs.yml).
"""

import html
import inspect
import re
import tempfile
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.core import TyperGroup, TyperOption

from service.front.app import Application
from service.settings import Settings
from service.telemetry import metric_table
from surprisal.cli.main import app
from training.config import TrainingConfig

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "benchmarks" / "studies" / "pictures"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand elsewhere in the repository, and the pictures that the studies drew."""
    pages = {
        "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](docs/", "]("),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    for picture in sorted(STUDIES.iterdir()):
        files.append(File.generated(config, f"concepts/pictures/{picture.name}", abs_src_path=str(picture)))
    return files


def made() -> dict[Path, str]:
    """The pages that are made from the code, by their files."""
    reference = ROOT / "docs" / "reference"
    return {
        reference / "command-line.md": command_line(),
        reference / "configuration.md": configuration(),
        reference / "http-api.md": http_api(),
        reference / "metrics.md": metrics(),
    }


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead to the site's copies of the studies' pictures."""
    return markdown.replace("../../benchmarks/studies/pictures/", "pictures/")


def on_page_content(content: str, **_: Any) -> str:
    """Set formulas as MathML, which browsers show without a script."""

    def mathematics(found: re.Match[str]) -> str:
        # A formula in a line stands between \( and \), one by itself between \[ and \].
        is_alone = found[1] == "div"
        return convert(html.unescape(found[2]).strip()[2:-2], display="block" if is_alone else "inline")

    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', mathematics, content, flags=re.DOTALL)


def command_line() -> str:
    """Every command with its arguments and options, from Typer."""
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    said = ["# Command line", "", "`surprisal COMMAND --help` says the same.", ""]
    for path, command in commands("surprisal", top):
        said += [f"## `{path}`", "", inspect.cleandoc(command.help or "").replace("\f", ""), ""]
        rows = [option(each) for each in command.params if each.name != "help"]
        said += ["| | | |", "|---|---|---|", *rows, ""] if rows else []
    return "\n".join(said)


def commands(path: str, group: TyperGroup) -> Iterator[tuple[str, Any]]:
    """Each command under a group, with what is typed to call it."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(f"{path} {name}", command)
        else:
            yield f"{path} {name}", command


def option(parameter: Any) -> str:
    """A row of a command's table."""
    is_option = isinstance(parameter, TyperOption)
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    shown = names if is_option else f"`{parameter.metavar or parameter.name.upper()}`"
    value = words(parameter.type_descriptor.annotation)
    notes = [f"by default `{parameter.default}`"] if isinstance(parameter.default, str | int | float | Path) else []
    notes = ["required"] if parameter.required else [] if isinstance(parameter.default, bool) else notes
    said = (parameter.help or "").replace("|", "\\|")
    return f"| {shown} | {value} | {said} {f'({notes[0]})' if notes else ''} |"


def words(annotation: Any) -> str:
    """An option's type in a word."""
    if get_args(annotation) and get_origin(annotation) is Literal:
        return " or ".join(f"`{each}`" for each in get_args(annotation))
    known = {bool: "flag", int: "whole number", float: "number", str: "text", Path: "path", list[str]: "text"}
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return " or ".join(f"`{each.value}`" for each in annotation)
    return known.get(annotation, str(annotation))


def configuration() -> str:
    """Every key of a training's TOML file, from its typed tree."""
    schema = TrainingConfig.model_json_schema()
    said = [
        "# Configuration",
        "",
        "`surprisal train --config FILE` reads these keys from a TOML file. `--schema-only` prints such a file.",
        "",
    ]
    sections = {name: tree for name, key in schema["properties"].items() if (tree := section(key, schema)) is not None}
    top = {name: key for name, key in schema["properties"].items() if name not in sections}
    said += ["## Top level", "", *keys(top, schema)]
    for name, tree in sections.items():
        title = f"[[{name}]]" if name == "fields" else f"[{name}]"
        said += [f"## `{title}`", "", tree["description"].split("\n\n")[0], "", *keys(tree["properties"], schema)]
    return "\n".join(said)


def section(key: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any] | None:
    """The tree below a key, where there is one."""
    for each in (key, *key.get("anyOf", ())):
        reference = each.get("$ref") or each.get("items", {}).get("$ref")
        found: dict[str, Any] = schema["$defs"].get(str(reference).rpartition("/")[2], {})
        if "properties" in found:
            return found
    return None


def keys(properties: dict[str, dict[str, Any]], schema: dict[str, Any]) -> list[str]:
    """A table of keys."""
    rows = ["| key | value | default | |", "|---|---|---|---|"]
    for name, key in properties.items():
        default = key.get("default")
        shown = "" if default is None or default == [] else f"`{default!r}`"
        rows.append(f"| `{name}` | {value(key, schema)} | {shown} | {key.get('description', '')} |")
    return [*rows, ""]


def value(key: dict[str, Any], schema: dict[str, Any]) -> str:
    """What a key takes, in words."""
    if "anyOf" in key:
        # None is a key that is not there.
        return " or ".join(value(each, schema) for each in key["anyOf"] if each.get("type") != "null")
    if "$ref" in key:
        return value(schema["$defs"][key["$ref"].rpartition("/")[2]], schema)
    if "enum" in key or "const" in key:
        return " or ".join(f"`{each}`" for each in key.get("enum", [key.get("const")]))
    known = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    if key.get("type") == "array":
        return f"list of {value(key.get('items', {}), schema)}s"
    return known.get(key.get("type", ""), "")


def http_api() -> str:
    """Every path with its parameters and answers, from the OpenAPI document of a service without a model."""
    with tempfile.TemporaryDirectory() as models:
        document = Application(Settings(models=Path(models))).api.openapi()
    said = [
        "# HTTP API",
        "",
        "A running service shows this at `/docs`, with your model's fields, and serves it as `/openapi.json`.",
        "",
        "With [keys](../security.md#keys) every path but those for health also answers 401 to a request without a key "
        "that is known. For `load` and `unload` 403 then means a key without the role `admin`, too.",
        "",
    ]
    described: dict[str, str] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            title, description = f"`{method.upper()} {path}`", operation.get("description", "")
            said += [f"## {title}", "", operation.get("summary", ""), ""]
            first = described.setdefault(description, title)
            said += (
                [description.replace("\n#", "\n###") if first == title else f"As {first}.", ""] if description else []
            )
            rows = [
                f"| `{each['name']}` | {each['in']} | {each.get('description', '')} |"
                for each in operation.get("parameters", ())
            ]
            said += ["| parameter | in | |", "|---|---|---|", *rows, ""] if rows else []
            answers = [
                f"| {status} | {answer['description'].splitlines()[0]} |"
                for status, answer in sorted(operation["responses"].items())
            ]
            said += ["| status | answer |", "|---|---|", *answers, ""]
    return "\n".join(said)


def metrics() -> str:
    """Every metric with its labels, from the table that metrics are made from."""
    said = [
        "# Metrics",
        "",
        "`/metrics` has these, summed over workers. "
        "A counter's name ends in `_total`; a histogram has `_bucket`, `_sum` and `_count`.",
        "",
        "| metric | type | labels | |",
        "|---|---|---|---|",
    ]
    for row in metric_table.EVERY:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        said.append(f"| `{row.exposed}` | {row.type} | {labels} | {row.help} |")
    return "\n".join(said)


def main() -> None:
    """Write the pages that are made from the code."""
    for path, content in made().items():
        path.write_text(content.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
