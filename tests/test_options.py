"""Options: Python, flags and YAML give the same; mistakes are named."""

import inspect
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xmodular import cli
from xmodular.cli import app
from xmodular.errors import ConfigurationError
from xmodular.flags import gathered, takes_of
from xmodular.options import (
    VERBS,
    EvaluateOptions,
    FinetuneOptions,
    PretrainOptions,
    TrainingOptions,
    as_record,
    build,
    read_options_file,
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


@pytest.fixture(autouse=True)
def nothing_is_looked_for(monkeypatch):
    """The files that the commands name here are not there."""
    monkeypatch.setattr("xmodular.cli.look", lambda options: None)


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
    saved = read_options_file(base_run.output_dir / "options.json")
    assert as_record(build(PretrainOptions, saved)) == saved


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpah": 0.3}, "Unknown option 'alpah' for PretrainOptions; did you mean 'alpha'"),
        ({"zzz": 1}, "Unknown option 'zzz' for PretrainOptions; the options are: output_dir, "),
        (
            {},
            r"Missing: --text \(Folder of .*\); --output-dir \(Folder for the model, its tokenizer and its metrics\)\.",
        ),
        ({"max_steps": "many"}, "max_steps must be a whole number; got 'many'"),
        ({"max_steps": 1.5}, "max_steps must be a whole number; got 1.5"),
        ({"max_steps": True}, "max_steps must be a whole number; got True"),
        ({"alpha": "x"}, "alpha must be a number; got 'x'"),
        ({"alpha": 1.5}, "alpha must be between 0.0 and 1.0; got 1.5"),
        ({"resume": "yes"}, "resume must be true or false; got 'yes'"),
        ({"languages": 3}, "languages must be a list, or text with commas; got 3"),
        ({"precision": "fp8"}, "precision must be one of auto, fp32, bf16, fp16; got 'fp8'"),
        ({"overrides": "hidden_size"}, "overrides must have the form key=value,key=value; got 'hidden_size'"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"learning_rate": -1}, "learning_rate must be positive; got -1"),
        ({"learning_rate": "nan"}, "learning_rate must be positive; got nan"),
        ({"epochs": "nan"}, "must be positive"),
        ({"epochs": "inf"}, "must be positive"),
        ({"warmup": -4}, "warmup must be 0 or more; got -4"),
        ({"weight_decay": "nan"}, "weight_decay must be 0 or more; got nan"),
        ({"max_grad_norm": -1}, "max_grad_norm must be 0 or more; got -1"),
        ({"vocab_size": 3}, "vocab_size must be at least 8; got 3"),
        ({"max_steps": 0}, "there would be nothing to train"),
        ({"resume": True, "overwrite": True}, "--resume and --overwrite cannot be used together"),
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
    assert build(FinetuneOptions, {**given, **read_options_file(tmp_path / "run.yaml")}).columns == expected
    assert build(EvaluateOptions, {"model": "m", "data": "d", "columns": {"text": 0}}).columns == {"text": "0"}
    (tmp_path / "run.yaml").write_text("columns: {label: no}")
    with pytest.raises(
        ConfigurationError, match="columns contains False where a name is needed; in YAML, write it in quo"
    ):
        build(FinetuneOptions, {**given, **read_options_file(tmp_path / "run.yaml")})


@pytest.mark.parametrize("line", ["languages: [de, no]", "languages: no", "source: no", "adapter: off"])
def test_the_norwegian_no_of_yaml_is_explained(line, tmp_path):
    (tmp_path / "run.yaml").write_text(f"model: m\ndata: d\n{line}")
    with pytest.raises(ConfigurationError, match=r"got False\. In YAML, words such as no, on and off need quotes\."):
        build(EvaluateOptions, read_options_file(tmp_path / "run.yaml"))


def test_lists_of_choices():
    options = build(EvaluateOptions, {"model": "m", "data": "d", "adapter": "right"})
    assert options.adapter == ("right",)
    with pytest.raises(
        ConfigurationError, match="adapter must be one of own, right, source, relative, none, identified; got 'left'"
    ):
        build(EvaluateOptions, {"model": "m", "data": "d", "adapter": "right,left"})


def test_own_is_another_name_of_the_right_adapter():
    assert build(EvaluateOptions, {"model": "m", "data": "d", "adapter": "own,none"}).adapter == ("right", "none")
    with pytest.raises(ConfigurationError, match="names an adapter twice"):
        build(EvaluateOptions, {"model": "m", "data": "d", "adapter": "own,right"})


def test_config_files_that_are_none(tmp_path):
    with pytest.raises(ConfigurationError, match="no configuration file"):
        read_options_file(tmp_path / "absent.yaml")
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(ConfigurationError, match="must contain names and values"):
        read_options_file(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(ConfigurationError, match="not valid YAML"):
        read_options_file(tmp_path / "broken.yaml")
    with pytest.raises(ConfigurationError, match=r"overrides is .*hidden_size.*, .* value that is not valid YAML"):
        build(PretrainOptions, {"text": "t", "output_dir": "o", "overrides": "hidden_size=["})


@pytest.mark.parametrize("options", VERBS, ids=lambda each: each.verb)
def test_headings_are_over_options_of_the_class_that_has_them(options):
    """Others would be over none."""
    for owner in options.__mro__:
        assert set(vars(owner).get("headings", ())) <= set(inspect.get_annotations(owner)), owner


def test_every_option_has_help():
    for options in (TrainingOptions, PretrainOptions, FinetuneOptions, EvaluateOptions):
        for field in options.__dataclass_fields__.values():
            assert field.metadata["help"].endswith("."), field.name


# Flags, and what the option is then. Each verb's function is replaced by one that keeps what it is given.
SEVERAL = [
    (("--train", "a.jsonl", "--train", "b.jsonl"), {"train": ("a.jsonl", "b.jsonl")}),
    (("--train", "a.jsonl", "b.jsonl", "c.jsonl"), {"train": ("a.jsonl", "b.jsonl", "c.jsonl")}),
    (
        ("--train=a.jsonl", "b.jsonl", "--train", "c.jsonl,d.jsonl"),
        {"train": ("a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl")},
    ),
    (("--train", "a", "--dev", "x", "y", "--train", "b"), {"train": ("a", "b"), "dev": ("x", "y")}),
    (("--train", "a", "--seeds", "1", "2", "--seeds", "3"), {"seeds": (1, 2, 3)}),
    (("--train", "a", "--adam-betas", "0.9", "0.95"), {"adam_betas": (0.9, 0.95)}),
    (("--train", "a", "--columns", "text=x", "--columns", "label=y"), {"columns": {"text": "x", "label": "y"}}),
    (("--train", "a", "--columns", "text=x", "label=y"), {"columns": {"text": "x", "label": "y"}}),
    (("--train", "a", "--overwrite", "--overwrite"), {"overwrite": True}),
    (("--train", "a", "--language", "-"), {"language": "-"}),
]


@pytest.fixture
def finetuned(monkeypatch):
    calls = []
    monkeypatch.setattr("xmodular.training.finetune", lambda **options: calls.append(build(FinetuneOptions, options)))
    return calls


@pytest.mark.parametrize(("flags", "expected"), SEVERAL)
def test_an_option_that_takes_several_may_be_repeated_or_listed(finetuned, flags, expected):
    run = invoke("finetune", "--model", "m", "--output-dir", "o", *flags)
    assert run.exit_code == 0, run.output
    assert {name: getattr(finetuned[0], name) for name in expected} == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--language", "en", "--language", "de"), "--language takes one value; got 2: en, de."),
        (("--language=en", "--language=de"), "--language takes one value; got 2: en, de."),
        (("--language", "en", "de"), "--language takes one value; got 2: en, de."),
        (("--model", "n"), "--model takes one value; got 2: m, n."),
        (("--config", "a.yaml", "--config", "b.yaml"), "--config takes one value; got 2: a.yaml, b.yaml."),
        (("--max-steps", "3", "--max-steps", "4"), "--max-steps takes one value; got 2: 3, 4."),
        (("--overwrite", "--no-overwrite"), "--overwrite and --no-overwrite cannot be used together."),
        (("--columns", "text=x", "--columns", "text=y"), "columns gives 'text' twice: x, y."),
        (("--seeds", "1", "--seeds", "1"), "--seeds names a seed twice: 1, 1."),
        (("--recipe", "--overwrite"), "--recipe needs a value, but --overwrite follows."),
        (("--dev", "--train", "x"), "--dev needs a value, but --train follows."),
        (("--dev", "--train=x"), "--dev needs a value, but --train=x follows."),
        (("--dev",), "--dev needs a value."),
    ],
)
def test_an_option_that_takes_one_value_is_refused_two_or_none(finetuned, flags, message):
    run = invoke("finetune", "--model", "m", "--output-dir", "o", "--train", "a", *flags)
    assert run.exit_code == 2
    assert " ".join(run.stderr.split()) == f"Error: {message}"
    assert not finetuned


ONE = {"pretrain": "--text", "extend": "--text", "predict": "--input", "evaluate": "--split", "pack save": "--language"}


@pytest.mark.parametrize("verb", ONE)
def test_no_verb_takes_the_last_of_two_values(verb):
    for flags in ((ONE[verb], "a", ONE[verb], "b"), (ONE[verb], "a", "b")):
        run = invoke(*verb.split(), *flags)
        assert run.exit_code == 2
        assert f"{ONE[verb]} takes one value; got 2: a, b." in run.stderr


def test_every_flag_of_every_verb_says_how_many_values_it_takes():
    """Flags that take several are given twice, and both arrive; all others are refused."""
    for record in VERBS:
        for flag, takes in takes_of(record).items():
            if takes == "several":
                assert gathered([flag, "a=1", flag, "b=2"], record) == [f"{flag}=a=1,b=2"]
            elif takes == "one":
                with pytest.raises(ConfigurationError, match=f"{flag} takes one value"):
                    gathered([flag, "a=1", flag, "b=2"], record)


def test_arguments_of_a_verb_stay_its_own(monkeypatch):
    calls = []
    monkeypatch.setattr("xmodular.comparison.diff", lambda **options: calls.append(options))
    monkeypatch.setitem(cli._SHOWN, "diff", lambda answer: 0)
    for words in (
        ("diff", "--allow", "encoder", "one", "two", "--allow", "task head"),
        ("diff", "one", "--allow", "encoder,task head", "two"),
        ("diff", "--allow=encoder", "--allow=task head", "--", "one", "two"),
    ):
        run = invoke(*words)
        assert run.exit_code == 0, run.output
    assert [(call["a"], call["b"], call["allow"]) for call in calls] == [("one", "two", ("encoder", "task head"))] * 3


def test_a_name_twice_in_yaml_is_refused(tmp_path):
    path = tmp_path / "run.yaml"
    for text, message in (
        ("train: a\ntrain: b\n", "'train' appears twice"),
        ("output-dir: a\noutput_dir: b\n", "output_dir is given twice, as 'a' and as 'b'"),
        ("columns: {text: a, text: b}\n", "'text' appears twice"),
        ('{"seed": 1, "seed": 2}', "'seed' appears twice"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=message):
            read_options_file(path)
    path.write_text("base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\n")
    assert read_options_file(path)["more"] == {"a": 1, "b": 3}  # YAML's own way to override
    with pytest.raises(ConfigurationError, match="output_dir is given twice"):
        build(PretrainOptions, {"text": "t", "output_dir": "a", "output-dir": "b"})
    with pytest.raises(ConfigurationError, match="overrides gives 'hidden_size' twice: 32, 64"):
        build(PretrainOptions, {"text": "t", "output_dir": "a", "overrides": "hidden_size=32,hidden_size=64"})
