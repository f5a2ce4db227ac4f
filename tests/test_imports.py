"""Who may import whom, by the source and by what is loaded; the rooms and their floors stand in `tests.floors`."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.floors import FLOORS, table

ROOT = Path(__file__).parents[1]
OURS = ("bundle", "reading", "training", "service", "surprisal")
FORBIDDEN = {
    "bundle": {"torch", "onnxruntime", "fastapi", "pyarrow", "reading", "training", "service", "surprisal"},
    "reading": {"torch", "onnx", "onnxruntime", "fastapi", "training", "service", "surprisal"},
    "training": {"fastapi", "starlette", "prometheus_client", "service", "surprisal"},
    "service": {"torch", "onnx", "onnxscript", "training", "surprisal"},
    "surprisal": set(),
}
ALLOWED_IN_BUNDLE = {"pydantic", "numpy", "PIL", "bundle"}
MOST_ENTRIES = 13
"""At the top of a package, `__init__.py` and the marker `py.typed` not counted."""


def parsed(package: str) -> Iterator[tuple[Path, ast.Module]]:
    """Every file of a package."""
    for path in sorted((ROOT / package).rglob("*.py")):
        yield path, ast.parse(path.read_text())


def modules(tree: ast.Module) -> set[str]:
    """The modules that a file imports anywhere in it, by their full names."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            whole = node.module or ""
            parts = {f"{whole}.{alias.name}" for alias in node.names}
            names |= {each if is_module(each) else whole for each in parts}
    return names


def is_module(name: str) -> bool:
    place = ROOT / name.replace(".", "/")
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def named(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("package", OURS)
def test_packages_import_only_what_the_design_allows(package: str) -> None:
    seen = 0
    for path, tree in parsed(package):
        seen += 1
        assert not {name.partition(".")[0] for name in modules(tree)} & FORBIDDEN[package], path
    assert seen


@pytest.mark.parametrize("package", FLOORS)
def test_no_room_imports_what_stands_above_or_beside_it(package: str) -> None:
    floors = {room.name: floor for floor, rooms in enumerate(reversed(FLOORS[package])) for room in rooms}
    for path, tree in parsed(package):
        room = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in floors, f"{path} is in no room"
        for name in modules(tree):
            owner, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if owner == package and other not in ("", room):
                assert floors[other] < floors[room], f"{path} imports {name}, which is not below it"


def test_no_modules_import_each_other_in_a_circle() -> None:
    imports = {named(path): modules(tree) for package in OURS for path, tree in parsed(package)}
    clear: set[str] = set()

    def walk(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name in imports and name not in clear:
            for other in sorted(imports[name] - {name}):
                walk(other, (*above, name))
            clear.add(name)

    for name in imports:
        walk(name, ())


@pytest.mark.parametrize("package", FLOORS)
def test_a_package_is_as_large_as_one_can_see_at_once(package: str) -> None:
    entries = {path.name for path in (ROOT / package).iterdir()} - {"__init__.py", "py.typed", "__pycache__"}
    assert len(entries) <= MOST_ENTRIES, sorted(entries)


@pytest.mark.parametrize("package", FLOORS)
def test_the_page_shows_the_rooms_as_they_are(package: str) -> None:
    assert table(package) in (ROOT / "docs" / "architecture.md").read_text()


def test_bundle_needs_only_pydantic_numpy_and_pillow() -> None:
    for path, tree in parsed("bundle"):
        foreign = {name.partition(".")[0] for name in modules(tree)} - set(sys.stdlib_module_names)
        assert foreign <= ALLOWED_IN_BUNDLE, path


def test_the_command_line_imports_training_and_service_only_inside_commands() -> None:
    for path, tree in parsed("surprisal/cli"):
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        owners = {name.partition(".")[0] for name in modules(ast.Module(body=list(top), type_ignores=[]))}
        assert not owners & {"training", "service"}, path


def test_training_tells_tables_from_images_in_one_place() -> None:
    """Elsewhere a branch on images is one that was forgotten; those of the report and of evaluation are left."""
    rooms = ("fitting", "export", "network", "data/split.py", "pipeline.py")
    for path, tree in parsed("training"):
        place = str(path.relative_to(ROOT / "training"))
        if place.startswith(rooms):
            assert not [line for line in path.read_text().splitlines() if "if " in line and ".image" in line], path
            names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            assert not names & {"TableSchema", "ImageSchema"}, path


@pytest.mark.parametrize("package", ["bundle", "service", "training"])
def test_a_schema_is_told_apart_by_its_type(package: str) -> None:
    """`match`, or `isinstance`: the type checker then knows what each kind has, and that no kind is left out."""
    of_images = (ROOT / "training" / "image", ROOT / "training" / "modality.py")
    seen = 0
    for path, tree in parsed(package):
        if any(path.is_relative_to(each) for each in of_images):
            continue
        seen += 1
        asked = [each for each in conditions(tree) if isinstance(each, ast.Attribute) and each.attr == "image"]
        assert not asked, f"{path}: line {asked[0].lineno} asks whether there is an image"
    assert seen


def conditions(tree: ast.AST) -> Iterator[ast.expr]:
    """Every expression whose truth alone is asked for, those that are joined by `and`, `or` and `not` one by one."""
    for node in ast.walk(tree):
        match node:
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.Assert(test=test):
                yield test
            case ast.comprehension(ifs=tests) | ast.BoolOp(values=tests):
                yield from tests
            case ast.UnaryOp(op=ast.Not(), operand=test):
                yield test
            case ast.match_case(guard=ast.expr() as test):
                yield test
            case ast.Call(func=ast.Name(id="bool"), args=[test]):
                yield test


@pytest.mark.parametrize(
    "code",
    [
        "if schema.image: pass",
        "1 if manifest.record.image else 2",
        "[x for x in y if schema.image]",
        "small and not schema.image",
        "bool(read(path).record.image)",
        "while self.schema.image: pass",
    ],
)
def test_a_question_for_an_image_is_found(code: str) -> None:
    assert [each for each in conditions(ast.parse(code)) if isinstance(each, ast.Attribute)]


@pytest.mark.parametrize(
    "statement",
    [
        "import service.front.app",
        "import service.process.server",
        "import service.files.scoring",
        "import surprisal",
        "import surprisal.cli.main",
    ],
)
def test_serving_side_loads_no_torch(statement: str) -> None:
    code = f"import sys; {statement}; print(sorted({{'torch', 'onnx', 'training.pipeline'}} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_source_file_is_too_long() -> None:
    for package in (*OURS, "benchmarks", "deploy", "tests"):
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) < (400 if package == "tests" else 350), path


def test_no_function_is_too_long() -> None:
    for package in (*OURS, "benchmarks", "deploy"):
        for path, tree in parsed(package):
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    assert (node.end_lineno or 0) - node.lineno + 1 < 60, f"{path}: {node.name}"
