"""What importing costs, and that every public name is there."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import xmodular

HEAVY = ("datasets", "matplotlib", "numpy", "sentencepiece", "torch", "transformers")


def loaded_after(statements: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter holds after some statements."""
    script = f"{statements}\nimport sys\nprint(*sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("statements", ["import xmodular; dir(xmodular); xmodular.__version__", "import xmodular.cli"])
def test_the_door_is_light(statements: str) -> None:
    assert loaded_after(statements) == set()


def test_the_probe_would_see_it() -> None:
    assert "transformers" in loaded_after("import xmodular; xmodular.XmodConfig")


@pytest.mark.parametrize("name", xmodular.__all__)
def test_public_names_resolve(name: str) -> None:
    value = getattr(xmodular, name)
    assert name == "__version__" or value.__name__ == name
    assert name in dir(xmodular)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        xmodular.nothing  # noqa: B018


def test_type_checkers_see_the_names_that_there_are() -> None:
    """What the stub has is the public names, and each import comes from where it is found at run time."""
    tree = ast.parse(Path(xmodular.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    seen = {alias.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    shown = {name for name in seen if name in xmodular.__all__}
    declared = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {*shown, *declared, "__version__"} == set(xmodular.__all__)
    for name in shown:
        assert getattr(importlib.import_module(str(seen[name])), name) is getattr(xmodular, name)
