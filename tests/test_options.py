"""Options: Python, flags and YAML give the same; mistakes are named."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from xmodular.cli import app
from xmodular.errors import ConfigurationError
from xmodular.options import (
    EvaluateOptions,
    FinetuneOptions,
    PretrainOptions,
    TrainingOptions,
    as_record,
    build,
    read_config,
)

FLAGS = [
    *("--text", "corpus", "--output-dir", "runs/a", "--languages", "en_XX,sw_KE", "--alpha", "0.5"),
    *("--max-steps", "7", "--no-overwrite", "--overrides", "hidden_size=64,pre_norm=true"),
]
YAML = """
text: corpus
output-dir: runs/a
languages: [en_XX, sw_KE]
alpha: 0.5
max_steps: 7
learning_rate: 5e-4   # YAML takes this for text
overwrite: false
overrides: {hidden_size: 64, pre_norm: true}
"""


@pytest.fixture
def received(monkeypatch):
    """What the pretrain command hands to the function of that name."""
    calls = []
    monkeypatch.setattr("xmodular.training.pretrain", lambda **options: calls.append(build(PretrainOptions, options)))
    return calls


def invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_python_flags_and_yaml_give_the_same(received, tmp_path: Path):
    expected = PretrainOptions(
        text=Path("corpus"),
        output_dir=Path("runs/a"),
        languages=("en_XX", "sw_KE"),
        alpha=0.5,
        max_steps=7,
        overrides={"hidden_size": 64, "pre_norm": True},
    )
    (tmp_path / "run.yaml").write_text(YAML)
    assert invoke("pretrain", *FLAGS).exit_code == 0
    assert invoke("pretrain", "--config", str(tmp_path / "run.yaml")).exit_code == 0
    loose = dict(as_record(expected), languages="en_XX, sw_KE", alpha="0.5")
    assert [*received, build(PretrainOptions, loose)] == [expected] * 3


def test_flags_override_yaml(received, tmp_path: Path):
    (tmp_path / "run.yaml").write_text(YAML)
    assert invoke("pretrain", "--config", str(tmp_path / "run.yaml"), "--alpha", "0.9", "--resume").exit_code == 0
    assert (received[0].alpha, received[0].resume, received[0].max_steps) == (0.9, True, 7)


def test_saved_options_make_the_same_run(base_run):
    saved = read_config(base_run.output_dir / "options.json")
    assert as_record(build(PretrainOptions, saved)) == saved


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpah": 0.3}, "Unknown option 'alpah' for PretrainOptions; did you mean 'alpha'"),
        ({"zzz": 1}, "Unknown option 'zzz' for PretrainOptions; the options are: output_dir, "),
        ({}, r"Missing: output_dir, text \(Where the model"),
        ({"max_steps": "many"}, "max_steps is a whole number; not 'many'"),
        ({"max_steps": 1.5}, "max_steps is a whole number; not 1.5"),
        ({"max_steps": True}, "max_steps is int; not True"),
        ({"alpha": "x"}, "alpha is a number; not 'x'"),
        ({"alpha": 1.5}, "alpha must be between 0.0 and 1.0; got 1.5"),
        ({"resume": "yes"}, "resume is true or false; not 'yes'"),
        ({"languages": 3}, "languages is a list, or text with commas; not 3"),
        ({"precision": "fp8"}, "precision is one of auto, fp32, bf16, fp16; not 'fp8'"),
        ({"overrides": "hidden_size"}, "overrides is written key=value,key=value; not 'hidden_size'"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"learning_rate": -1}, "learning_rate must be positive; got -1"),
        ({"learning_rate": "nan"}, "learning_rate must be positive; got nan"),
        ({"epochs": "nan"}, "must be positive"),
        ({"epochs": "inf"}, "must be positive"),
        ({"warmup": -4}, "warmup must be a number from 0 up; got -4"),
        ({"weight_decay": "nan"}, "weight_decay must be a number from 0 up; got nan"),
        ({"max_grad_norm": -1}, "max_grad_norm must be a number from 0 up; got -1"),
        ({"vocab_size": 3}, "vocab_size must be at least 8; got 3"),
        ({"max_steps": 0}, "there would be nothing to train"),
        ({"resume": True, "overwrite": True}, "--resume and --overwrite exclude each other"),
    ],
)
def test_mistakes_are_named(values, message):
    given = {"text": "a", "output_dir": "b", **values} if values else {}
    with pytest.raises(ConfigurationError, match=message):
        build(PretrainOptions, given)


def test_columns_are_text_however_they_are_given(tmp_path):
    given = {"model": "m", "train": "t", "output_dir": "o"}
    expected = {"text": "0", "label": "no", "id": "1.50"}
    flag = build(FinetuneOptions, {**given, "columns": "text=0, label = no,id=1.50"})
    assert flag.columns == expected
    assert build(FinetuneOptions, as_record(flag)) == flag
    (tmp_path / "run.yaml").write_text("columns: {text: 0, label: 'no', id: '1.50'}")
    assert build(FinetuneOptions, {**given, **read_config(tmp_path / "run.yaml")}).columns == expected
    assert build(EvaluateOptions, {"model": "m", "data": "d", "columns": {"text": 0}}).columns == {"text": "0"}
    (tmp_path / "run.yaml").write_text("columns: {label: no}")
    with pytest.raises(
        ConfigurationError, match="columns holds False where a name is needed; in YAML, write it in quo"
    ):
        build(FinetuneOptions, {**given, **read_config(tmp_path / "run.yaml")})


def test_lists_of_choices():
    options = build(EvaluateOptions, {"model": "m", "data": "d", "adapter": "right"})
    assert options.adapter == ("right",)
    with pytest.raises(ConfigurationError, match="adapter is one of right, source, relative, none; not 'left'"):
        build(EvaluateOptions, {"model": "m", "data": "d", "adapter": "right,left"})


def test_config_files_that_are_none(tmp_path):
    with pytest.raises(ConfigurationError, match="no configuration file"):
        read_config(tmp_path / "absent.yaml")
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(ConfigurationError, match="must hold names and values"):
        read_config(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigurationError, match="not valid YAML"):
        read_config(tmp_path / "broken.yaml")
    with pytest.raises(ConfigurationError, match=r"overrides is .*hidden_size.*, which has a value that is no YAML"):
        build(PretrainOptions, {"text": "t", "output_dir": "o", "overrides": "hidden_size=["})


def test_every_option_has_help():
    for options in (TrainingOptions, PretrainOptions, FinetuneOptions, EvaluateOptions):
        for field in options.__dataclass_fields__.values():
            assert field.metadata["help"].endswith("."), field.name
