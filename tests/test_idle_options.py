"""Options without effect in a combination are refused, from flags and keywords; from a configuration file, said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import xmodular
from xmodular import cli
from xmodular.embeddings import Embedder
from xmodular.errors import ConfigurationError
from xmodular.options import VERBS, as_record, build
from xmodular.recipes import RECIPES
from xmodular.tasks import TASKS

# What each verb needs in any case.
NEEDED: dict[str, dict[str, Any]] = {
    "pretrain": {"text": "text", "output_dir": "o"},
    "donors": {"model": "m", "text": "t"},
    "extend": {"model": "m", "language": "gsw", "output_dir": "o"},
    "finetune": {"model": "m", "train": "t", "output_dir": "o"},
    "evaluate": {"model": "m", "data": "d"},
    "predict": {"model": "m"},
    "embed": {"model": "m"},
    "serve": {"model": "a=m"},
    "export": {"model": "m", "output": "o"},
    "pack save": {"model": "m", "language": "de", "output_dir": "o"},
    "convert": {"source": "s", "output_dir": "o"},
    "trim": {"model": "m", "output_dir": "o"},
    "demo": {},
}
ROWS, TEXT, PAIRS = {"input": "i"}, {"text": "t"}, {"parallel": "p"}
# A verb, options that do not go together, the one that has no effect, and what is said of it; then what helps.
COMBINATIONS: list[tuple[str, dict[str, Any], str, str, dict[str, Any]]] = [
    ("pretrain", {"decay": 0.2}, "--decay 0.2", "is for --schedule wsd.", {"schedule": "wsd"}),
    ("pretrain", {"dataset_split": "dev"}, "--dataset-split dev", "is for data sets", {"text": "hub:a"}),
    ("pretrain", {"dataset_streaming": True}, "--dataset-streaming", "is for data sets", {"text": "hub:a"}),
    (
        *("pretrain", {"batch_size": 8, "batch_tokens": 4096}, "--batch-size 8", "no effect beside --batch-tokens"),
        {"batch_tokens": None},
    ),
    (
        "pretrain",
        {"objective": "clm", "mask_probability": 0.2},
        "--mask-probability 0.2",
        "is about masking",
        {"objective": "mlm"},
    ),
    ("pretrain", {"objective": "clm", "whole_words": True}, "--whole-words", "is about masking", {"objective": "mlm"}),
    ("pretrain", {"tokenizer": "t", "vocab_size": 500}, "--vocab-size 500", "is for a new vocab", {"tokenizer": None}),
    ("pretrain", {"tokenizer": "t", "byte_fallback": True}, "--byte-fallback", "is for a new", {"tokenizer": None}),
    ("extend", {**TEXT, "byte_fallback": True}, "--byte-fallback", "needs --new-vocabulary", {"new_vocabulary": 500}),
    ("extend", {**TEXT, "start_rows": "random"}, "--start-rows random", "is for a vocabulary", {"tokenizer": "t"}),
    (
        *("extend", {**TEXT, "dev_text": "d", "dev_fraction": 0.2}, "--dev-fraction 0.2", "holds out lines"),
        {"dev_text": None},
    ),
    ("extend", {**TEXT, "objective": "linear"}, "--objective linear", "goes with --parallel", {"text": None, **PAIRS}),
    ("extend", {**PAIRS, "whole_words": True}, "--whole-words", "goes with --text", {"parallel": None, **TEXT}),
    (
        "extend",
        {**PAIRS, "temperature": 0.1},
        "--temperature 0.1",
        "is for --objective contrast",
        {"objective": "both"},
    ),
    (
        *("extend", {**PAIRS, "objective": "linear", "learning_rate": 0.1}, "--learning-rate 0.1", "is for training"),
        {"objective": "distance"},
    ),
    ("finetune", {"seed": 3, "seeds": "1,2"}, "--seed 3", "has no effect beside --seeds", {"seeds": ()}),
    ("evaluate", {"threshold": 0.5}, "--threshold 0.5", "needs --identify.", {"identify": True}),
    ("evaluate", {"threshold": 0.5}, "--threshold 0.5", "needs --identify.", {"adapter": "identified"}),
    (
        "evaluate",
        {"identify_languages": "de,sw"},
        "--identify-languages de,sw",
        "needs --identify.",
        {"identify": True},
    ),
    ("evaluate", {"predictions": True}, "--predictions", "needs --output-dir", {"output_dir": "o"}),
    ("predict", {**ROWS, "threshold": 0.5}, "--threshold 0.5", "needs --identify.", {"identify": "spans"}),
    ("embed", {**ROWS, "threshold": 0.5}, "--threshold 0.5", "needs --identify.", {"identify": True}),
    (
        "predict",
        {**ROWS, "identify": True, "language": "de"},
        "--identify",
        "give --default-language",
        {"language": None},
    ),
    (
        *(
            "embed",
            {**ROWS, "default_language": "de", "language": "sw"},
            "--default-language de",
            "is for rows that do",
        ),
        {"language": None},
    ),
    ("predict", {**TEXT, "skip_bad_rows": True}, "--skip-bad-rows", "is for rows", {"text": None, **ROWS}),
    ("predict", {**TEXT, "columns": {"text": "a"}}, "--columns text=a", "is for rows", {"text": None, **ROWS}),
    ("predict", {**ROWS, "workers": 2}, "--workers 2", "belongs to --engine", {"engine": "local", "output": "o"}),
    (
        *("predict", {**ROWS, "worker_gpus": 1.0, "engine": "local", "output": "o"}, "--worker-gpus 1.0"),
        *("belongs to --engine ray", {"engine": "ray"}),
    ),
    ("serve", {"identify": False, "threshold": 0.5}, "--threshold 0.5", "needs --identify.", {"identify": True}),
    ("export", {"check_rows": 5}, "--check-rows 5", "needs --check", {"check": "c"}),
    ("export", {"int8": True, "format": "torch"}, "--int8", "is for --format onnx", {"format": "onnx"}),
    ("pack save", {"private": True}, "--private", "name it with --push-to-hub", {"push_to_hub": "a/b"}),
    ("convert", {"to": "fairseq", "preset": "base"}, "--preset base", "is only for fairseq", {"to": "xmodular"}),
    ("trim", {"scripts": True, "min_count": 2}, "--min-count 2", "needs --text", {"text": "t"}),
    ("trim", {"scripts": True, "dev_text": "d"}, "--dev-text d", "needs --text", {"text": "t"}),
    ("demo", {"language": "de"}, "--language de", "needs --model", {"model": "m", "train": "t", "data": "d"}),
    (
        *("demo", {"model": "m", "train": "t", "data": "d", "pretrain_steps": 5}, "--pretrain-steps 5"),
        *("is for the demo without --model", {"model": None, "train": (), "data": ()}),
    ),
]


@pytest.mark.parametrize(("verb", "given", "option", "why", "helps"), COMBINATIONS)
def test_an_option_without_effect_is_refused(
    verb: str, given: dict[str, Any], option: str, why: str, helps: dict[str, Any]
) -> None:
    (options,) = [each for each in VERBS if each.verb == verb]
    values = {**NEEDED[verb], **given}
    with pytest.raises(ConfigurationError) as raised:
        build(options, values)
    assert str(raised.value).startswith(f"{option} ")
    assert why in str(raised.value)
    made = build(options, {**values, **helps})
    assert build(options, as_record(made)) == made


@pytest.mark.parametrize("options", VERBS, ids=lambda each: each.verb)
def test_the_tables_name_options_of_the_verb(options: Any) -> None:
    names = {field.name for field in dataclasses.fields(options)}
    for owner in options.__mro__:
        for each in vars(owner).get("idle", ()):
            assert names.issuperset(each.names)
            assert each.why.endswith(".")
        for several, kind, _ in vars(owner).get("only_for", ()):
            assert names.issuperset(several)
            assert kind in {"retrieval", "perplexity"}.union(*(task.kinds for task in TASKS.values()))


def test_recipes_have_an_effect() -> None:
    (options,) = [each for each in VERBS if each.verb == "finetune"]
    for name, recipe in RECIPES.items():
        dev = {"dev": "d"} if "patience" in recipe.values else {}
        made = build(options, {**NEEDED["finetune"], **dev, "recipe": name})
        made.check_kind(TASKS[recipe.task].kinds, "")


def test_a_recorded_run_with_a_tokenizer_is_built_again() -> None:
    (options,) = [each for each in VERBS if each.verb == "pretrain"]
    made = build(options, {**NEEDED["pretrain"], "tokenizer": "t"})
    assert build(options, as_record(made)) == made


def test_a_configuration_file_may_be_for_several_uses(topic_run: Any, corpus: Path, tmp_path: Path) -> None:
    """What has no effect in it is said once; a flag is refused all the same."""
    path = tmp_path / "evaluate.yaml"
    path.write_text("threshold: 0.6\npivot: en\nseed: 0\n", encoding="utf-8")
    words = ["evaluate", "--model", topic_run.output_dir, "--data", corpus / "topic", "--config", path]
    done = CliRunner().invoke(cli.app, [*map(str, words), "--languages", "de"])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stderr.split())
    assert said.count("--threshold 0.6 needs --identify. In the configuration file, it has no effect.") == 1
    assert said.count("--pivot en is for retrieval; the task is classify. In the configuration file, it") == 1
    assert "--seed" not in said
    done = CliRunner().invoke(cli.app, [*map(str, words), "--threshold", "0.7"])
    assert done.exit_code == 2
    assert done.stderr == "Error: --threshold 0.7 needs --identify.\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pairs": "pivot"}, "--pairs pivot is for retrieval; the task is classify"),
        ({"candidates": "all"}, "--candidates all is for retrieval"),
        ({"prefix": "query: "}, "--prefix 'query: ' is for retrieval"),
        ({"answers": "squad"}, "--answers squad is for qa; the task is classify"),
        ({"stride": 8}, "--stride 8 is for tag and qa; the task is classify"),
        ({"packing": "lines"}, "--packing lines is for perplexity; the task is classify"),
        ({"model": "base", "answers": "squad"}, "--answers squad is for qa; this is an evaluation by perplexity"),
        (
            {"model": "base", "data": "text", "skip_bad_rows": True},
            "--skip-bad-rows is for tasks and retrieval",
        ),
        (
            {"model": "base", "data": "text", "predictions": True, "output_dir": "out"},
            "--predictions is for models with a task",
        ),
        ({"task": "retrieval", "seed": 3}, "--seed 3 is for perplexity; this is an evaluation by retrieval"),
        ({"data": "topic/en_XX.test.jsonl", "split": "dev"}, "--split dev chooses among the files of a folder"),
        ({"task": "retrieval", "data": "text", "split": "dev"}, "no file is called <language>.dev"),
    ],
)
def test_options_of_another_kind_of_evaluation(
    base_run: Any, topic_run: Any, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, said: str
) -> None:
    monkeypatch.chdir(corpus)
    models = {"base": base_run.output_dir, "topic": topic_run.output_dir}
    given = {"data": "topic", **given, "model": models[given.get("model", "topic")]}
    if "output_dir" in given:
        given["output_dir"] = tmp_path / "out"
    with pytest.raises(ConfigurationError, match=said):
        xmodular.evaluate(**given)
    assert not (tmp_path / "out").exists()


def test_options_of_another_task(topic_run: Any, corpus: Path, tmp_path: Path) -> None:
    rows, model = [{"text": "das Haus"}], topic_run.output_dir
    with pytest.raises(ConfigurationError, match=f"--stride 8 is for tag and qa; {model} is a model for classify"):
        xmodular.predict(model, rows, tmp_path / "out.jsonl", language="de", stride=8)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "de.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(ConfigurationError, match="--stride 8 is for tag and qa"):
        xmodular.predict(model, tmp_path / "rows", tmp_path / "all", engine="local", stride=8)
    with pytest.raises(ConfigurationError, match="--stride 8 is for tag and qa; the models are for classify"):
        xmodular.serve({"topic": model}, port=0, stride=8)
    train = corpus / "topic" / "en_XX.train.jsonl"
    for name, value in (("temperature", 0.1), ("positive_language", "de"), ("stride", 8)):
        with pytest.raises(ConfigurationError, match=f"--{name.replace('_', '-')} {value} is for .*; the task is cla"):
            xmodular.finetune(model, train, language="en", output_dir=tmp_path / "run", **{name: value})
    for name, value in (("classifier_dropout", 0.2), ("head_learning_rate", 0.1)):
        with pytest.raises(ConfigurationError, match=f"{value} is for tasks with a head; the task is embed"):
            xmodular.finetune(model, train, task="embed", language="en", output_dir=tmp_path / "run", **{name: value})
    assert not (tmp_path / "run").exists()


def test_options_for_another_kind_of_model(topic_run: Any, corpus: Path, tmp_path: Path) -> None:
    text = corpus / "text" / "de_DE.made.txt"
    with pytest.raises(
        ConfigurationError, match="--most 2 is for measuring, which takes a masked-LM head; this is an X"
    ):
        xmodular.donors(topic_run.output_dir, text, most=2)
    with pytest.raises(ConfigurationError, match=r"--reduction 4\.0 is for dense encoders"):
        xmodular.upcycle(topic_run.output_dir, "de,fr", output_dir=tmp_path / "out", reduction=4)
    assert not (tmp_path / "out").exists()


def test_classes_that_take_the_same_arguments_refuse_too(topic_run: Any) -> None:
    for maker in (xmodular.Predictor, Embedder):
        with pytest.raises(ConfigurationError, match="threshold needs identify"):
            maker(topic_run.output_dir, threshold=0.5)
