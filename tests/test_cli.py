"""The command line: the whole road in one go, clean errors, a quick start."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import typing

import pytest
from typer.testing import CliRunner

import xmodular
from tests.conftest import MINIATURE
from xmodular import __main__
from xmodular.cli import app
from xmodular.options import VERBS


def invoke(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_whole_road(corpus, tmp_path):
    small = ",".join(f"{name}={value}" for name, value in MINIATURE.items())
    base, topic = tmp_path / "base", tmp_path / "topic"
    run = invoke(
        *("pretrain", "--text", corpus / "text", "--output-dir", base, "--preset", "tiny", "--overrides", small),
        *("--vocab-size", 150, "--block-size", 32, "--batch-size", 8, "--max-steps", 6, "--dev-fraction", 0.1),
    )
    assert run.exit_code == 0, run.output
    assert "de_DE" in run.stderr  # the table of languages
    run = invoke(
        *("finetune", "--model", base, "--train", corpus / "topic" / "en_XX.train.jsonl", "--language", "English"),
        *("--dev", corpus / "topic" / "en_XX.dev.jsonl", "--output-dir", topic, "--epochs", 1),
    )
    assert run.exit_code == 0, run.output
    assert "embeddings" in run.stderr  # the table of what trains
    run = invoke(
        *("evaluate", "--model", topic, "--data", corpus / "topic" / "*.test.jsonl", "--output-dir", topic / "eval"),
        *("--adapter", "right"),
    )
    assert run.exit_code == 0, run.output
    rows = json.loads((topic / "eval" / "results.json").read_text())["rows"]
    assert {row["language"] for row in rows} == {"de_DE", "en_XX", "sw_KE"}
    assert {row["adapter"] for row in rows} == {"right", "majority", "uniform"}
    run = invoke("fill-mask", "--model", base, "--language", "sw", "--top-k", 2, "nyumba <mask> mto")
    assert run.exit_code == 0, run.output
    lines = run.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("0\t")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pretrain", "--text", "nowhere", "--output-dir", "out"), "Error: There is no text folder nowhere."),
        (("pretrain", "--text", "nowhere"), "Error: Missing: --output-dir (Folder for the model, its tokenizer"),
        (("evaluate", "--model", ".", "--data", "x"), "Error: . contains no model: it has no config.json."),
    ],
)
def test_errors_are_one_message(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = invoke(*arguments)
    assert run.exit_code == 2
    assert run.stderr.strip().startswith(message)
    assert "Traceback" not in run.output
    assert not (tmp_path / "out").exists()


def test_version():
    run = invoke("--version")
    assert run.exit_code == 0
    assert run.stdout == f"xmodular {xmodular.__version__}\n"


def test_an_unknown_key_in_a_config_file_names_the_nearest(tmp_path):
    (tmp_path / "run.yaml").write_text("text: a\noutput_dir: b\nlearning_rat: 1\n")
    run = invoke("pretrain", "--config", tmp_path / "run.yaml")
    assert run.exit_code == 2
    assert "Unknown option 'learning_rat' for PretrainOptions; did you mean 'learning_rate'?" in run.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["pretrain", "--help"]])
def test_help_needs_no_torch(arguments):
    script = (
        "import sys\n"
        "from xmodular.cli import app\n"
        f"try:\n    app({arguments!r})\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print('loaded:', *sorted({'torch', 'transformers', 'numpy', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


@pytest.mark.parametrize(("verb", "options"), [(options.verb, options) for options in VERBS])
def test_help_is_uncut_in_80_columns(verb, options, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run = CliRunner().invoke(app, [*verb.split(), "--help"], terminal_width=80)
    assert run.exit_code == 0
    assert "…" not in run.output
    assert max(map(len, run.output.splitlines())) <= 80
    said = " ".join(run.output.split())
    hints = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        assert "".join(field.metadata["help"].split()) in said.replace(" ", ""), field.name
        choices = re.findall(r"Literal\[(.*?)\]", str(hints[field.name]))
        for choice in re.findall(r"'([^']+)'", " ".join(choices)):
            assert re.search(rf"--{field.name.replace('_', '-')} \[[^\]]*\b{choice}\b", said), (field.name, choice)


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "4000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
    ids=["nothing", "turns", "a policy"],
)
def test_threads_wait_briefly_unless_the_user_says_how(given, expected, monkeypatch):
    monkeypatch.setattr(os, "environ", given)
    monkeypatch.setattr(__main__, "app", lambda **more: None)
    __main__.main()
    assert given.get("GOMP_SPINCOUNT") == expected
