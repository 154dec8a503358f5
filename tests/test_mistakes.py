"""Mistaken calls, drawn at random, of all commands and public functions: one line and exit 2, or rows read right.

A call starts from arguments that are right; some are then left out, misspelt, or replaced by what is not theirs: paths
of nothing, of other things or of damaged files, numbers out of range, values of other types, data of another kind.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import xmodular
from xmodular import cli
from xmodular.errors import XmodularError
from xmodular.options import VERBS
from xmodular.training import Run

_LEFT_OUT = ("workers", "fsdp", "push_to_hub")  # which start processes, or reach for the Hub
_DATA = {"finetune": "train", "evaluate": "data", "predict": "input", "extend": "text", "pretrain": "text"}
# Semicolons are found out, and columns go by their names.
_READABLE = ("semicolons.csv", "turned.csv")
_TEXTS = [f"the house sees river {number}" for number in range(12)]
_ROWS = [{"text": text, "label": ("rare", "common")[number % 2]} for number, text in enumerate(_TEXTS)]


@pytest.fixture(scope="module")
def world(base_run: Run, topic_run: Run, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Right arguments for every verb, and a folder of things that are none of them."""
    folder = tmp_path_factory.mktemp("world")
    base, topic = base_run.output_dir, topic_run.output_dir
    xmodular.pack_save(base, "de_DE", output_dir=folder / "pack")
    rows = folder / "en_XX.test.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in _ROWS))
    table = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in _ROWS)
    (folder / "en_XX.csv").write_text(table)
    wrong = folder / "wrong"
    wrong.mkdir()
    (wrong / "empty").mkdir()
    (wrong / "nothing.jsonl").write_text("")
    (wrong / "bytes.jsonl").write_bytes(bytes(range(256)) * 9)
    (wrong / "bytes.parquet").write_bytes(b"PAR1" + bytes(range(256)) + b"PAR1")
    (wrong / "zipped.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00damaged")
    (wrong / "utf16.csv").write_bytes(table.encode("utf-16"))
    (wrong / "semicolons.csv").write_text(table.replace(",", ";"))
    (wrong / "spaces.csv").write_text(table.replace(",", " "))
    (wrong / "noheader.csv").write_text(table.split("\n", 1)[1])
    (wrong / "turned.csv").write_text(table.replace("text,label", "label,text"))
    (wrong / "german.csv").write_text(table.replace("text,label", "Rezension,Note"))
    (wrong / "table.jsonl").write_text(table)
    (wrong / "rows.csv").write_text(rows.read_text())
    (wrong / "list.jsonl").write_text("[1, 2]\n" * 3)
    (wrong / "numbers.jsonl").write_text("".join(f'{{"text": {number}, "label": {number}.5}}\n' for number in range(5)))
    (wrong / "cut.jsonl").write_text(rows.read_text()[:-20])
    (wrong / "nulls.jsonl").write_text('{"text": null, "label": null}\n' * 3)
    shutil.copy(corpus / "tag" / "en_XX.test.conll", wrong / "tags.conll")
    (wrong / "options.yaml").write_text("a: [1\n")
    (wrong / "latin.yaml").write_bytes("model: \xe9\n".encode("latin-1"))
    (wrong / "loop").symlink_to(wrong / "loop")
    for name, content in (("list", "[]"), ("number", '{"model_type": 1}'), ("bert", '{"model_type": "bert"}')):
        (wrong / f"config-{name}").mkdir()
        (wrong / f"config-{name}" / "config.json").write_text(content)
    (wrong / "half").mkdir()
    shutil.copy(topic / "config.json", wrong / "half")
    (wrong / "half" / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    (wrong / "unpacked").mkdir()
    (wrong / "unpacked" / "pack.json").write_text("{}")
    (wrong / "model.pt").write_bytes(b"PK\x03\x04 no zip")
    for name in ("base", "topic"):  # some verbs change a model in its place
        shutil.copytree({"base": base, "topic": topic}[name], folder / name)
    small = {"output_dir": "out", "max_steps": 1, "batch_size": 4}
    verbs: dict[str, dict[str, Any]] = {
        "pretrain": {"text": corpus / "text", "model": base, "languages": "de_DE", "block_size": 16, **small},
        "extend": {"model": base, "language": "gsw", "text": corpus / "text" / "de_DE.made.txt", **small},
        "donors": {"model": base, "text": corpus / "text" / "de_DE.made.txt", "language": "gsw", "output": "out.json"},
        "finetune": {"model": base, "train": rows, "language": "en", **small},
        "evaluate": {"model": topic, "data": rows, "output_dir": "out"},
        "predict": {"model": topic, "input": rows, "output": "out.jsonl", "language": "en"},
        "fill-mask": {"text": "the <mask> sees", "model": base, "language": "en", "top_k": 2},
        "pack save": {"model": base, "language": "de", "output_dir": "out"},
        "pack install": {"pack": folder / "pack", "model": folder / "topic", "output_dir": "out", "language": "de_AT"},
        "pack verify": {"pack": folder / "pack", "model": base},
        "pack list": {"folder": folder},
        "pack remove": {"model": folder / "base", "language": "de", "output_dir": "out"},
        "diff": {"a": base, "b": topic, "allow": "encoder"},
        "convert": {"source": base, "output_dir": "out", "to": "fairseq"},
        "upcycle": {"model": base, "languages": "de,fr", "output_dir": "out"},
        "trim": {"model": base, "languages": "de", "text": corpus / "text", "output_dir": "out"},
        "recipes": {"name": "xnli"},
        "models": {"name": "xmod-base"},
    }
    return {"verbs": verbs, "folder": folder, "paths": sorted(wrong.iterdir()), "data": [rows, folder / "en_XX.csv"]}


def _values(draw: random.Random, world: dict[str, Any]) -> Any:
    """A value that hardly any argument has."""
    places = ["nowhere", "no/where", "./nowhere.jsonl", "/", ".", "hub:no/such", "hub:", "~", "=", ",", "-"]
    strange = ["", " ", "x" * 5000, "a\nb", "\x1b]0;title\x07", "\u202egnp", "a\0b", "half \ud800", "$\\frac$"]
    words = ["Deutsh", "ner", "classify", "true", "null", "1e5", "text=label,label=text", "text=", "=x"]
    numbers = [0, -1, 1, 7, 2**40, 2**70, -(2**63), 0.5, 1e-300, float("nan"), float("inf")]
    paths = world["paths"]
    return draw.choice(draw.choice([paths, paths, paths, world["data"], places, strange, words, numbers]))


def _objects(draw: random.Random) -> Any:
    """A value that Python has and the command line has not."""
    return draw.choice(
        [
            *(None, True, b"bytes", (), [], {}, {"text": "a"}, [None], [[1]], object(), print, 3, 0.5, {1, 2}),
            *(np.zeros((2, 2)), np.zeros(()), torch.zeros(2), Path("nowhere"), [{"text": "a", "label": 1}], ["a", "b"]),
            *(range(3), torch.nn.Linear(2, 2), ValueError("x"), [{"text": 3}], iter([]), {"en_XX": "nowhere"}),
        ]
    )


def _words(verb: str, arguments: dict[str, Any], options: type, draw: random.Random) -> list[str]:
    """A command line, sometimes with a mistake in its form."""
    positional = [field.name for field in dataclasses.fields(options) if field.metadata["positional"]]
    words = verb.split()
    for name, value in arguments.items():
        if name in positional:
            words.append(str(value))
        elif value is True:
            words.append(f"--{name.replace('_', '-')}")
        else:
            words += [f"--{name.replace('_', '-')}", str(value)]
    kind = draw.random()
    place = draw.randrange(1, len(words) + 1)
    if kind < 0.05:
        words.insert(place, draw.choice(["-m", "--modle", "--overwite", "stray", "--no-seed", "--config", "--=", "-1"]))
    elif kind < 0.08:
        del words[place - 1]
    elif kind < 0.1:
        words += draw.sample(words, k=min(2, len(words)))
    return words


def _mistaken(world: dict[str, Any], draw: random.Random) -> tuple[str, type, dict[str, Any]]:
    """A verb and its arguments, some of which are not right."""
    verb = draw.choice(list(world["verbs"]))
    options = next(each for each in VERBS if each.verb == verb)
    arguments = dict(world["verbs"][verb])
    names = [
        field.name for field in dataclasses.fields(options) if field.name not in ("workers", "fsdp", "push_to_hub")
    ]
    if verb in _DATA and draw.random() < 0.5:
        arguments[_DATA[verb]] = draw.choice(world["paths"])
        names = names if draw.random() < 0.5 else []
    for name in draw.sample(names, k=min(len(names), draw.choice((1, 1, 1, 2, 3)))):
        if name in arguments and draw.random() < 0.1:
            del arguments[name]
        else:
            arguments[name] = _values(draw, world)
    return verb, options, arguments


def _check_read(verb: str, arguments: dict[str, Any], world: dict[str, Any], folder: Path) -> None:
    """What succeeded has read rows as they are: of the damaged files, only those that can mean one thing."""
    source = arguments.get(_DATA.get(verb, ""))
    if source in world["paths"] and not arguments.get("skip_bad_rows"):
        assert source.name in _READABLE, f"{verb} took {source}: {arguments}"
    place = folder / "out.jsonl"
    if verb == "predict" and place.is_file() and not arguments.get("columns"):
        texts = [json.loads(line)["text"] for line in place.read_text(encoding="utf-8").splitlines()]
        assert set(texts) <= {*_TEXTS, "rare", "common"}, f"{arguments} wrote {texts}"


def _command(world: dict[str, Any], draw: random.Random, folder: Path) -> None:
    verb, options, arguments = _mistaken(world, draw)
    words = _words(verb, arguments, options, draw)
    run = CliRunner().invoke(cli.app, words)
    said = f"{words}\n{run.output[-2000:]}"
    assert run.exception is None or isinstance(run.exception, SystemExit), f"{run.exception!r}\n{said}"
    assert run.exit_code in (0, 1, 2), said
    assert "Traceback" not in run.output, said
    assert "\x1b]" not in run.output, said
    if run.exit_code == 2:
        errors = [line for line in run.stderr.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1, said
        assert run.stderr.splitlines()[-1] == errors[0], said
    elif run.exit_code == 0:
        _check_read(verb, arguments, world, folder)


def _function(world: dict[str, Any], draw: random.Random, folder: Path) -> None:
    verb, options, arguments = _mistaken(world, draw)
    name = draw.choice(list(arguments)) if arguments else None
    if name is not None and draw.random() < 0.7:
        arguments[name] = _objects(draw)
    function = getattr(xmodular, verb.replace("-", "_").replace(" ", "_"), None)
    if verb == "recipes":  # for the command line
        return
    needed = [field.name for field in dataclasses.fields(options) if field.default is dataclasses.MISSING]
    if missing := [each for each in needed if each not in arguments]:  # Python's own TypeError
        arguments |= {each: world["verbs"][verb][each] for each in missing}
    try:
        function(**arguments)
    except XmodularError as error:
        said = str(error)
    except Exception as error:
        raise AssertionError(f"{verb} {arguments}: {error!r}") from error
    else:
        _check_read(verb, arguments, world, folder)
        return
    assert said.strip(), f"{verb} {arguments}"


def _one(number: int, world: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(number)
    here = folder / str(number)
    here.mkdir()
    monkeypatch.chdir(here)
    (_command if number % 2 else _function)(world, draw, here)
    shutil.rmtree(here)


@pytest.mark.parametrize("number", [*range(40), 1267, 1357])
def test_a_mistaken_call_is_refused_in_one_line(number, world, tmp_path, monkeypatch):
    _one(number, world, tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_thousand_mistaken_calls(world, tmp_path, monkeypatch):
    failed = []
    for number in range(1000, 2000):
        try:
            _one(number, world, tmp_path, monkeypatch)
        except (AssertionError, Warning) as error:
            failed.append(f"{number}: {error}")
    assert not failed, f"{len(failed)} of 1000\n" + "\n\n".join(failed)
