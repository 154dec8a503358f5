"""The floors of the package: a module imports from its own floor or lower ones, never in a circle.

The table is in docs/design.md too. Imports inside functions count like those at the top of a file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "xmodular"

# Rooms by floor. A room is a module, or a package with all that is in it.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        *("errors", "languages", "language_conditions", "catalogue", "recipes", "console", "files", "outputs", "hub"),
        *("scripts", "weight_names", "addresses", "language_meaning", "model_cards"),
    ),
    (
        *("configuration", "options", "signatures", "packs", "weights", "stored_tensors", "beforehand"),
        "tokenizer_rules",
    ),
    ("modeling",),
    ("pieces", "vocabulary", "identification", "exported_models", "saved_models"),
    ("text", "conversion", "rows"),
    ("tasks", "perplexity", "donor_ranking"),
    (
        *("results", "charts", "training", "evaluation", "prediction", "serving", "exporting", "pack_verbs"),
        *("comparison", "trimming", "embeddings", "distributed", "registration"),
    ),
    ("cli", "flags", "demo", "__main__", "__init__"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, Path]:
    """All modules by dotted name; a package stands under its own name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ("xmodular", *path.relative_to(SOURCE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room(module: str) -> str:
    """The room of a module: its first name below the package."""
    return "__init__" if module == "xmodular" else module.split(".")[1]


def imports(name: str, text: str, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and full name of all that a module's text imports, relative imports resolved.

    `from a import b` names `a.b` where that is a known module, else `a`.
    """
    package = name if name in known and known[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{above}.{base}".rstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in known else base


def own_imports(name: str) -> Iterator[tuple[int, str]]:
    """Line and module of what a module imports from this package."""
    for line, target in imports(name, MODULES[name].read_text(encoding="utf-8"), MODULES):
        if target == "xmodular" or target.startswith("xmodular."):
            yield line, target


def test_every_room_has_a_floor() -> None:
    rooms = {room(name) for name in MODULES}
    assert rooms - FLOOR_OF.keys() == set(), "put the new room into FLOORS, here and in docs/design.md"
    assert FLOOR_OF.keys() - rooms == set(), "FLOORS names a room that is not there"


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name: str) -> None:
    upwards = [
        f"{MODULES[name]}:{line} imports {target} (floor {FLOOR_OF[room(target)]}) from floor {FLOOR_OF[room(name)]}"
        for line, target in own_imports(name)
        if FLOOR_OF[room(target)] > FLOOR_OF[room(name)]
    ]
    assert not upwards, "\n".join(upwards)


def dependencies() -> dict[str, set[str]]:
    """Who imports whom, package inits included: from outside a package, a part of it stands on its init."""
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for name in MODULES:
        for _, target in own_imports(name):
            graph[name].add(target)
            above = target.rpartition(".")[0]
            while above not in ("", "xmodular") and not f"{name}.".startswith(f"{above}."):
                graph[name].add(above)
                above = above.rpartition(".")[0]
    return graph


def test_no_circles() -> None:
    try:
        TopologicalSorter(dependencies()).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_the_peer_is_never_imported() -> None:
    found = []
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value]  # for importlib
            found += [
                f"{name}: {each}" for each in names if each.startswith("transformers.") and "xmod" in each.lower()
            ]
    assert not found


@pytest.mark.parametrize(
    ("module", "text", "expected"),
    [
        ("xmodular.text.blocks", "from xmodular.text.text_files import a", ["xmodular.text.text_files"]),
        ("xmodular.text.blocks", "from xmodular.text import text_files", ["xmodular.text.text_files"]),
        ("xmodular.text.blocks", "from . import text_files", ["xmodular.text.text_files"]),
        ("xmodular.text.blocks", "from ..tasks import classify, TASKS", ["xmodular.tasks.classify", "xmodular.tasks"]),
        ("xmodular.text", "from .blocks import pack", ["xmodular.text.blocks"]),
        ("xmodular.cli", "def f():\n    import xmodular.modeling", ["xmodular.modeling"]),
        ("xmodular.errors", "from xmodular import finetune", ["xmodular"]),
    ],
)
def test_the_reader_of_imports_sees_them_all(module: str, text: str, expected: list[str]) -> None:
    assert [target for _, target in imports(module, text, MODULES)] == expected


def test_design_shows_the_same_floors() -> None:
    text = (SOURCE.parents[1] / "docs" / "design.md").read_text(encoding="utf-8")
    for floor, rooms in enumerate(FLOORS):
        row = next(line for line in text.splitlines() if line.startswith(f"| {floor} "))
        assert all(f"`{each}`" in row or f"`{each}/`" in row for each in rooms), row
