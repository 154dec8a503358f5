"""The demo on an encoder of one's own: the same road on a tiny dense encoder, with small sets made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel
from typer.testing import CliRunner

from tests import kinds
from xmodular import XmodModel
from xmodular.cli import app
from xmodular.configuration import read_config
from xmodular.demo import embedded_demo, own_encoder
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.results import Results
from xmodular.saved_models import load_saved
from xmodular.training import extending

_OTHERS = ("choice", "regress", "pairs")
TOPICS = ("law", "sport")
WORDS = {
    "en_XX": ("free", "born"),
    "de_DE": ("frei", "geboren"),
    "sw_KE": ("huru", "wote"),
    "mt": ("hieles", "imwieled"),
}


def topics(place: Path, language: str, count: int) -> Path:
    """Rows whose word says the topic."""
    rows = [{"text": f"{WORDS[language][n % 2]} {n}", "label": TOPICS[n % 2], "id": n} for n in range(count)]
    place.parent.mkdir(exist_ok=True)
    place.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return place


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a user names: an encoder, a training file, and a folder with test sets in two languages."""
    monkeypatch.setattr(extending, "_FEWEST_STEPS", 2)
    kinds.dense("unigram", "ForMaskedLM", tmp_path / "encoder")
    train = topics(tmp_path / "en_XX.train.jsonl", "en_XX", 8)
    for language in ("de_DE", "sw_KE"):
        topics(tmp_path / "sets" / f"{language}.test.jsonl", language, 6)
    return {
        "output_dir": tmp_path / "demo",
        "model": str(tmp_path / "encoder"),
        "train": str(train),
        "data": str(tmp_path / "sets"),
        "epochs": 1,
    }


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results without pictures, which take longer than all else here."""

    def save(results: Results, folder: Path) -> list[str]:
        results.to_json(folder / "results.json")
        return ["results.json"]

    monkeypatch.setattr(Results, "save", save)


def with_maltese(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same with a language to add, and a test set in it."""
    topics(folder / "sets" / "mt.test.jsonl", "mt", 6)
    lines = ["en\tmt", *(f"{WORDS['en_XX'][n % 2]} {n}\t{WORDS['mt'][n % 2]} {n}" for n in range(20))]
    (folder / "pairs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {**asked, "add": "mt", "parallel": str(folder / "pairs.tsv")}


@pytest.mark.parametrize("kind", ["wordpiece", pytest.param("unigram", marks=pytest.mark.slow)])
def test_the_road_leaves_every_result(asked: dict[str, Any], kind: str, tmp_path: Path, capsys: Any) -> None:
    source = kinds.dense(kind, "ForMaskedLM", tmp_path / "encoder")
    results = embedded_demo.run(**with_maltese(asked, tmp_path))
    demo = tmp_path / "demo"

    assert read_config(demo / "modular").languages == ["en_XX", "de_DE", "sw_KE"]
    dense = AutoModel.from_pretrained(tmp_path / "encoder")
    modular = XmodModel.from_pretrained(demo / "modular", add_pooling_layer=False)
    ids = torch.tensor([kinds.tokenizer_of(kind)(kinds.LINES["de_DE"])["input_ids"]])
    assert int(ids.max()) < source.config.vocab_size
    theirs = dense(ids).last_hidden_state
    own = modular(ids, lang_ids=torch.tensor([1])).last_hidden_state
    torch.testing.assert_close(own, theirs, atol=1e-5, rtol=0)

    record = json.loads((demo / "demo.json").read_text(encoding="utf-8"))
    assert 0 < record["difference"] <= 1e-5 or record["difference"] == 0
    assert (record["compared_rows"], record["compared_languages"]) == (12, 2)
    assert record["finished"]
    assert len(record["seconds"]) == 5

    assert (demo / "task" / "eval" / "results.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((demo / "grown" / "certificate.json").read_text())["ok"]
    assert read_config(demo / "task").languages == ["en_XX", "de_DE", "sw_KE", "mt"]
    saved = Results.from_json(demo / "task" / "eval" / "results.json")
    assert set(results.languages()) == set(saved.languages()) == {"de_DE", "sw_KE", "mt"}
    for language in ("de_DE", "sw_KE"):  # adapters that add nothing: whoever reads
        values = {saved.value(language, adapter).value for adapter in ("right", "source", "none")}
        assert len(values) == 1
    grown = load_saved(demo / "task")
    second = grown.roberta.encoder.layer[0].output.adapter_modules["mt"].dense2.weight
    assert bool(second.any())
    rows = [json.loads(line) for line in (demo / "predicted.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["adapter"] for row in rows] == ["de_DE"] * 4 + ["mt"] * 4 + ["sw_KE"] * 4
    assert all(row["label"] in TOPICS and row["right"] in TOPICS for row in rows)
    said = " ".join(capsys.readouterr().err.split())
    assert "on 12 rows of the test sets in 2 languages" in said
    assert "The adapters of de_DE, sw_KE add nothing until they are trained" in said


@pytest.mark.usefixtures("unpainted")
def test_a_broken_demo_goes_on(asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = embedded_demo.run(**{**asked, "output_dir": tmp_path / "whole"})

    def break_off(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(own_encoder, "evaluate", break_off)
        with pytest.raises(KeyboardInterrupt):
            embedded_demo.run(**asked)
    for name, value in (("seed", 1), ("epochs", 2)):
        with pytest.raises(ConfigurationError, match=f"unfinished demo with another {name}"):
            embedded_demo.run(**{**asked, name: value})
    before = (tmp_path / "sets" / "de_DE.test.jsonl").read_bytes()
    topics(tmp_path / "sets" / "de_DE.test.jsonl", "de_DE", 4)
    with pytest.raises(ConfigurationError, match="another test set of de_DE"):
        embedded_demo.run(**asked)
    (tmp_path / "sets" / "de_DE.test.jsonl").write_bytes(before)

    with monkeypatch.context() as patched:
        for verb in ("upcycle", "finetune"):  # what is done is not done again
            patched.setattr(own_encoder, verb, break_off)
        results = embedded_demo.run(**asked)
    assert results.rows == whole.rows

    with pytest.raises(ConfigurationError, match="contains a finished demo"):
        embedded_demo.run(**asked)

    # What starts anew, and is broken off, takes nothing of what is overwritten for its own.
    with monkeypatch.context() as patched:
        patched.setattr(own_encoder, "finetune", break_off)
        with pytest.raises(KeyboardInterrupt):
            embedded_demo.run(**{**asked, "seed": 1}, overwrite=True)
    embedded_demo.run(**{**asked, "seed": 1})
    assert json.loads((tmp_path / "demo" / "task" / "options.json").read_text(encoding="utf-8"))["seed"] == 1


def test_what_is_there_is_not_replaced(asked: dict[str, Any], tmp_path: Path) -> None:
    other = tmp_path / "demo" / "modular"
    other.mkdir(parents=True)
    (other / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="modular already exists"):
        embedded_demo.run(**asked)
    with pytest.raises(ConfigurationError, match=r"modular is not replaced"):
        embedded_demo.run(**asked, overwrite=True)
    assert (other / "mine.txt").read_text() == "mine"
    (tmp_path / "demo" / "demo.json").unlink()
    with pytest.raises(ConfigurationError, match="is the source"):
        embedded_demo.run(
            **{**asked, "output_dir": tmp_path, "model": str(tmp_path / "encoder")} | _inside(tmp_path, asked)
        )


def _inside(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """The encoder in the place where the modular one is to go."""
    (folder / "encoder").rename(folder / "modular")
    return {"model": str(folder / "modular")}


@pytest.mark.usefixtures("unpainted")
def test_of_a_modular_source_its_own_languages_are_compared(asked: dict[str, Any], tmp_path: Path) -> None:
    folder = kinds.modular("unigram", "ForMaskedLM", tmp_path / "of")  # English, German, Swahili
    model = load_saved(folder)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "adapter_modules" in name:
                weight.normal_(std=0.5)
    model.save_pretrained(folder)
    topics(tmp_path / "sets" / "mt.test.jsonl", "mt", 6)
    embedded_demo.run(**{**asked, "model": str(folder)})
    demo = tmp_path / "demo"
    record = json.loads((demo / "demo.json").read_text(encoding="utf-8"))
    assert record["difference"] == 0
    assert record["compared_languages"] == 2  # not Maltese, whose adapter is new
    made = load_saved(demo / "modular")
    name = "encoder.layer.1.output.adapter_modules.sw_KE.dense2.weight"
    assert torch.equal(made.state_dict()[name], model.roberta.state_dict()[name])
    assert not made.state_dict()[name.replace("sw_KE", "mt")].any()


@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize("task", ["tag", "qa", *(pytest.param(name, marks=pytest.mark.slow) for name in _OTHERS)])
def test_every_task_has_the_road(asked: dict[str, Any], task: str, tmp_path: Path) -> None:
    def row(number: int, word: str) -> dict[str, Any]:
        text = f"{word} {number}"
        return {
            "tag": {"words": [word, str(number)], "tags": ["B-X" if number % 2 else "O", "O"]},
            "qa": {
                "context": f"{text} huru",
                "question": "?",
                "answers": {"text": [word], "answer_start": [0]},
                "id": str(number),
            },
            "choice": {"premise": text, "question": "cause", "choice1": "a", "choice2": "b", "label": number % 2},
            "regress": {"review": text, "label": number / 8},
            "pairs": {"premise": text, "hypothesis": word, "label": TOPICS[number % 2]},
        }[task]

    for place, word in ((tmp_path / "train.jsonl", "free"), (tmp_path / "sw.jsonl", "huru")):
        place.write_text("".join(json.dumps(row(number, word)) + "\n" for number in range(8)), encoding="utf-8")
    more: dict[str, Any] = {"columns": {"text": "review"}} if task == "regress" else {}
    results = embedded_demo.run(
        **{
            **asked,
            "train": tmp_path / "train.jsonl",
            "language": "English",
            "data": f"Swahili={tmp_path / 'sw.jsonl'}",
            "task": "classify" if task == "pairs" else task,
            **more,
        }
    )
    assert results.languages() == ["sw_KE"]
    rows = (tmp_path / "demo" / "predicted.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["language"] for line in rows] == ["sw_KE"] * 8


@pytest.mark.usefixtures("unpainted")
def test_languages_are_those_that_are_named(asked: dict[str, Any], tmp_path: Path) -> None:
    embedded_demo.run(**asked, languages="en,German,fi")
    assert read_config(tmp_path / "demo" / "modular").languages == ["en_XX", "de_DE", "fi_FI"]
    results = Results.from_json(tmp_path / "demo" / "task" / "eval" / "results.json")
    assert results.languages() == ["de_DE"]  # Swahili has a test set and no adapter


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"languages": "de,sw"}, LanguageError, r"'en_XX' is not among --languages de,sw"),
        ({"language": "Qwertyish"}, LanguageError, "'Qwertyish' means no language"),
        ({"add": "de", "languages": "en,de"}, LanguageError, "de_DE is among --languages"),
        ({"add": "en"}, LanguageError, "--add en: the training rows are in this language"),
        ({"add": "fi"}, DataError, "no column is in fi"),
        ({"train": "{}/unnamed.jsonl"}, DataError, "the row's language is unknown"),
        ({"data": "hub:some/set:{{language}}:test"}, ConfigurationError, "needs --languages"),
        ({"model": "{}/bare"}, ConfigurationError, "no tokenizer"),
    ],
)
def test_mistakes_show_before_anything_is_made(
    asked: dict[str, Any], change: dict[str, str], error: type[Exception], said: str, tmp_path: Path
) -> None:
    topics(tmp_path / "unnamed.jsonl", "en_XX", 4)
    kinds.dense("unigram", "Model", tmp_path / "bare")
    for path in (tmp_path / "bare").glob("tokenizer*"):
        path.unlink()
    more = with_maltese(asked, tmp_path) if "add" in change else asked
    with pytest.raises(error, match=said):
        embedded_demo.run(**{**more, **{name: value.format(tmp_path) for name, value in change.items()}})
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--train x.jsonl", "--train x.jsonl needs --model"),
        ("--languages de", "--languages de needs --model"),
        ("--task tag", "--task tag needs --model"),
        ("--model {} --data sets", "needs --train"),
        ("--model {} --train {}/config.json", "needs --data"),
        ("--model {} --train {}/config.json --data sets --add mt", "--add mt needs --parallel"),
        ("--model {} --train {}/config.json --data sets --parallel x.tsv", "--parallel x.tsv needs --add"),
        (
            "--model {} --train {}/config.json --data sets --pretrain-steps 5",
            "--pretrain-steps 5 is for the demo without",
        ),
        ("--model {} --train {}/config.json --data sets --epochs 0", "epochs must be positive"),
        ("--model {}/gone --train {}/config.json --data sets", "There is no folder"),
    ],
)
def test_options_that_do_not_go_together_are_named(asked: dict[str, Any], words: str, said: str) -> None:
    done = CliRunner().invoke(app, ["demo", *words.replace("{}", asked["model"]).split()])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_ctrl_c_says_how_to_go_on(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(own_encoder, "upcycle", break_off)
    flags = [word for name in ("model", "train", "data") for word in (f"--{name}", asked[name])]
    done = CliRunner().invoke(app, ["demo", *flags, "--output-dir", str(asked["output_dir"])])
    assert done.exit_code == 130
    assert "the same command continues" in done.output
