"""The faces of the verbs: every option in signature and docstring, for people, editors and type checkers."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xmodular
from xmodular.errors import ConfigurationError
from xmodular.options import VERBS as ALL_VERBS

FACES = {
    options.verb.replace("-", "_").replace(" ", "_"): options
    for options in ALL_VERBS
    if options.verb not in ("demo", "recipes")
}


@pytest.mark.parametrize("name", FACES)
def test_signature_and_docstring_have_every_option(name: str) -> None:
    function = getattr(xmodular, name)
    signature = inspect.signature(function)
    fields = {field.name: field for field in dataclasses.fields(FACES[name])}
    assert set(signature.parameters) == set(fields)
    explained = inspect.getdoc(function).split("\nArgs:\n")[1].split("\n\n")[0]
    named = re.findall(r"^    (\w[\w, ]*): ", explained, re.MULTILINE)
    assert sorted(each for names in named for each in names.split(", ")) == sorted(fields)
    for parameter in signature.parameters.values():
        default = fields[parameter.name].default
        if default is dataclasses.MISSING:
            assert parameter.default is parameter.empty
        else:
            assert parameter.default == (str(default) if isinstance(default, Path) else default)


def test_mistaken_keywords_are_named() -> None:
    with pytest.raises(ConfigurationError, match="Unknown option 'epohcs' for FinetuneOptions; did you mean 'epochs'"):
        xmodular.finetune("model", "train.jsonl", output_dir="x", epohcs=3)
    with pytest.raises(ConfigurationError, match="Missing: --output-dir"):
        xmodular.finetune("model", "train.jsonl")
    with pytest.raises(TypeError, match=r"^finetune\(\): missing a required argument: 'train'"):
        xmodular.finetune("model")
    with pytest.raises(TypeError, match="multiple values for argument 'model'"):
        xmodular.finetune("model", "train.jsonl", model="other")
    with pytest.raises(TypeError, match=r"^pack_list\(\): too many positional arguments"):
        xmodular.pack_list("here", "there")


CALLS = """
from pathlib import Path

import xmodular
from xmodular import XmodForMaskedLM, evaluate, fill_mask, finetune, pretrain

model = XmodForMaskedLM.from_pretrained("m")
run = finetune(model, [{"text": "a", "label": "b"}], output_dir="x", seeds=(1, 2), columns={"text": "t"}, epochs=3)
finetune("m", "a.jsonl", language="en", output_dir=Path("x"), tokenizer=Path("t"), precision="bf16")
evaluate(["m", model], {"de": "a"}, adapter="right", languages="de,sw").report("page.html")
pretrain("text", output_dir="x", model=model, overrides={"hidden_size": 64})
print(run.metrics, fill_mask(run.model, "a <mask>", language="en")[0].piece)
finetune("m", "a", output_dir="x", epohcs=3)
finetune("m", "a", output_dir="x", epochs="many")
finetune("m", "a", output_dir="x", trainable="nothing")
finetune("m", output_dir="x")
finetune("m", "a")
xmodular.pack_save("m", "de", "packs")
evaluate("m", "d", adapter=("right", "left"))
"""


@pytest.mark.slow
def test_a_type_checker_sees_mistakes_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "calls.py").write_text(CALLS)
    command = [sys.executable, "-m", "mypy", "--config-file=", "--ignore-missing-imports", "calls.py"]
    environment = {**os.environ, "MYPYPATH": str(Path(xmodular.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    lines = CALLS.splitlines()
    wrong = range(lines.index('finetune("m", "a", output_dir="x", epohcs=3)') + 1, len(lines) + 1)
    assert [int(line) for line in re.findall(r"^calls\.py:(\d+): error", done.stdout, re.MULTILINE)] == list(wrong)
