"""`xmodular export`: a graph gives what the model gives, in the languages that were asked for, or nothing is kept."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

import xmodular
from tests.prediction.conftest import HEADS, LANGUAGES, SENTENCES
from tests.prediction.conftest import folders as folders
from tests.prediction.conftest import small_tokenizer as small_tokenizer
from tests.support import tiny_model
from xmodular import Predictor, cli
from xmodular.errors import ConfigurationError, DataError, InputError, LanguageError
from xmodular.exported_models import ExportedModel, load_exported, with_program
from xmodular.exporting import exported

ROWS = [{"text": text, "language": code} for code in ("ru_RU", "de_DE") for text in SENTENCES[code]]
TEXTS = {
    "XmodForSequenceClassification": ROWS,
    "regress": ROWS,
    "XmodForTokenClassification": [{"words": row["text"].split(), "language": row["language"]} for row in ROWS],
    "XmodForQuestionAnswering": [
        {"question": "Who opens it?", "context": row["text"], "language": row["language"]} for row in ROWS
    ],
    "XmodForMultipleChoice": [
        {"context": row["text"], "choices": ["a house", "bread", "Markt am Fluss"], "language": row["language"]}
        for row in ROWS
    ],
}


def needs_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the extra onnx is not installed")


@pytest.fixture(scope="module")
def topic(small_tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a classifier of one layer in four languages."""
    folder = tmp_path_factory.mktemp("topic")
    model = tiny_model(
        xmodular.XmodForSequenceClassification,
        "sdpa",
        vocab_size=len(small_tokenizer),
        languages=LANGUAGES,
        max_position_embeddings=80,
        num_hidden_layers=1,
        type_vocab_size=1,
        **HEADS["XmodForSequenceClassification"],
    )
    model.save_pretrained(folder)
    small_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def graph(topic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The topic model in two of its four languages, in another order than the model's."""
    needs_onnx()
    output = tmp_path_factory.mktemp("graphs") / "topic.onnx"
    xmodular.export(topic, output, languages="ru,de")
    return output


def values_of(made: list[dict[str, Any]]) -> list[float]:
    return [value for each in made for value in each["probabilities"].values()]


def test_a_predictor_over_the_graph_says_what_the_model_says(topic: Path, graph: Path) -> None:
    ours, theirs = (Predictor(each, probabilities=True)(ROWS) for each in (topic, graph))
    assert [each["label"] for each in ours] == [each["label"] for each in theirs]
    assert [each["adapter"] for each in theirs] == ["ru_RU", "ru_RU", "de_DE", "de_DE"]
    assert np.allclose(values_of(ours), values_of(theirs), atol=1e-4)
    swapped = [{**row, "language": {"ru_RU": "de", "de_DE": "ru"}[row["language"]]} for row in ROWS]
    assert not np.allclose(values_of(theirs), values_of(Predictor(graph, probabilities=True)(swapped)), atol=1e-3)


def test_the_file_has_no_adapters_but_those_asked_for(topic: Path, graph: Path) -> None:
    onnx = pytest.importorskip("onnx")
    names = {each.name for each in onnx.load(graph / "model.onnx").graph.initializer}
    numbers = sum(np.prod(each.dims) for each in onnx.load(graph / "model.onnx").graph.initializer)
    model = xmodular.XmodForSequenceClassification.from_pretrained(topic, languages=["ru", "de"])
    assert numbers < 1.02 * sum(each.numel() for each in model.parameters()) + 100
    assert not any("sw_KE" in name or "en_XX" in name for name in names)
    assert json.loads((graph / "config.json").read_text())["languages"] == ["ru_RU", "de_DE"]


def test_the_table_gives_the_ratio_of_times_also_below_one(tmp_path: Path) -> None:
    made = exported.Exported(
        tmp_path, ("de_DE",), "model.onnx", (), (), 2**20, (), {"tokens": 16, "graph": 2.0, "model": 1.0, "ratio": 0.5}
    )
    title = " ".join(str(made.table().title).split())
    assert title.endswith("graph 2.0 ms, model 1.0 ms (the graph is 0.50 times as fast)")


def test_the_report_says_how_far_it_agrees(graph: Path) -> None:
    report = json.loads((graph / "report.json").read_text())
    assert [each["language"] for each in report["check"]] == ["ru_RU", "de_DE"]
    assert all(each["max_difference"] <= 1e-4 and each["label_agreement"] == 1.0 for each in report["check"])
    assert report["inputs"] == ["input_ids", "attention_mask", "lang_ids"]
    assert report["bytes"] == (graph / "model.onnx").stat().st_size
    assert report["latency_ms"]["graph"] > 0


@pytest.mark.parametrize("wrong", [2, -1, 100])
def test_a_language_id_out_of_range_is_an_error_in_the_graph_and_before(graph: Path, wrong: int) -> None:
    model = load_exported(graph)
    batch = {"input_ids": torch.tensor([[0, 5, 2]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    with pytest.raises(LanguageError, match=rf"lang_ids has {wrong}.*ru_RU, de_DE"):
        model(**batch, lang_ids=torch.tensor([wrong]))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph / "model.onnx", options)
    with pytest.raises(Exception, match="out of data bounds"):
        session.run(None, {name: each.numpy() for name, each in batch.items()} | {"lang_ids": np.array([wrong])})


def test_the_command_line_predicts_with_it(graph: Path, tmp_path: Path) -> None:
    rows = tmp_path / "de_DE.txt"
    rows.write_text("\n".join(SENTENCES["de_DE"]), encoding="utf-8")
    output = tmp_path / "out.jsonl"
    words = ["predict", "--model", str(graph), "--input", str(rows), "--output", str(output)]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["adapter"] for line in output.read_text().splitlines()] == ["de_DE", "de_DE"]


def test_it_can_neither_be_trained_nor_saved_nor_run_without_adapters(graph: Path, tmp_path: Path) -> None:
    labelled = [{**row, "label": "calm"} for row in ROWS[:3]] + [{**ROWS[3], "label": "sad"}]
    with pytest.raises(ConfigurationError, match="exported model"):
        xmodular.finetune(graph, train=labelled, language="de", output_dir=tmp_path / "run", task="classify")
    with pytest.raises(ConfigurationError, match="copy its folder"):
        load_exported(graph).save_pretrained(tmp_path / "copy")
    with pytest.raises(ConfigurationError, match="precision is 'bf16'"):
        Predictor(graph, precision="bf16")


def test_other_languages_than_the_graphs_are_not_believed(graph: Path, tmp_path: Path) -> None:
    copied = tmp_path / "graph"
    shutil.copytree(graph, copied)
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "languages": ["de_DE", "ru_RU"]}))
    with pytest.raises(DataError, match="do not match"):
        Predictor(copied)
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "model.onnx").write_bytes((graph / "model.onnx").read_bytes()[:5000])
    with pytest.raises(DataError, match="cannot be loaded"):
        Predictor(copied)


def test_a_graph_that_differs_is_not_kept(topic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = exported.write_torch

    def spoilt(program: Any, path: Path) -> None:
        bias = program.state_dict["classifier.out_proj.bias"]
        program.state_dict["classifier.out_proj.bias"] = torch.nn.Parameter(bias.detach() + 0.01)
        written(program, path)

    monkeypatch.setattr(exported, "write_torch", spoilt)
    with pytest.raises(DataError, match=r"In sw_KE, outputs of the graph differ .* by 0.01"):
        xmodular.export(topic, tmp_path / "graph", languages="sw", format="torch")
    assert list(tmp_path.iterdir()) == []


def test_a_program_of_torch_in_one_language(topic: Path, tmp_path: Path) -> None:
    rows = [{"text": "Daktari anapenda mkate.", "language": "sw"}, {"text": "Brot", "language": "de"}]
    check = tmp_path / "rows.jsonl"
    check.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "topic"
    made = xmodular.export(topic, output, languages="sw", format="torch", check=str(check))
    assert made.inputs == ("input_ids", "attention_mask")
    assert [(each.rows, each.given) for each in made.checked] == [(1, True)]
    program = torch.export.load(output / "model.pt2").module()
    model = xmodular.XmodForSequenceClassification.from_pretrained(topic, languages=["sw"]).eval()
    for shape in ((1, 1), (1, 9), (6, 2)):
        ids = torch.full(shape, 7)
        with torch.no_grad():
            (found,) = program(input_ids=ids, attention_mask=torch.ones_like(ids))
            torch.testing.assert_close(found, model(ids).logits, atol=1e-5, rtol=0)
    with pytest.raises(ConfigurationError, match=r"torch\.export\.load"):
        Predictor(output)
    with pytest.raises(ConfigurationError, match="already exists"):
        xmodular.export(topic, output, languages="sw", format="torch")


def test_a_program_that_is_trusted_predicts(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("XmodForSequenceClassification", "XmodForTokenClassification"):
        output = tmp_path / name
        xmodular.export(folders[name], output, languages="de,ru", format="torch")
        model = with_program(output, torch.export.load(output / "model.pt2"))
        rows = [{"text": text, "language": code} for code in ("de_DE", "ru_RU") for text in SENTENCES[code]]
        if "Token" in name:
            rows = [{"words": row["text"].split(), "language": row["language"]} for row in rows]
        ours, theirs = (Predictor(each, probabilities="Token" not in name)(rows) for each in (folders[name], model))
        for one, other in zip(ours, theirs, strict=True):
            assert one.get("tags", one.get("label")) == other.get("tags", other.get("label"))
        if "Token" not in name:
            assert np.allclose(values_of(ours), values_of(theirs), atol=1e-4)
        with pytest.raises(LanguageError, match="out of range"):
            model(input_ids=torch.full((1, 4), 7), lang_ids=torch.tensor([2]))
    other = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    with pytest.raises(DataError, match="does not fit the program"):
        with_program(output, other)
    with pytest.raises(ConfigurationError, match="has no program"):
        with_program(folders[name], other)


def test_refusals_come_before_work(topic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "graph"
    with pytest.raises(LanguageError, match="mt"):
        xmodular.export(topic, output, languages="mt", format="torch")
    with pytest.raises(ConfigurationError, match="int8 is for --format onnx"):
        xmodular.export(topic, output, format="torch", int8=True)
    with pytest.raises(ConfigurationError, match="source"):
        xmodular.export(topic, topic, format="torch", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="not replaced"):
        xmodular.export(topic, tmp_path / "mine", format="torch", overwrite=True)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'xmodular\[onnx\]'"):
        xmodular.export(topic, output)
    assert not output.exists()


def test_languages_with_their_own_vocabulary_go_alone(small_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = len(small_tokenizer)
    model = tiny_model(xmodular.XmodForSequenceClassification, "sdpa", vocab_size=rows, languages=LANGUAGES)
    model.set_vocabulary("ru", small_tokenizer, torch.randn(rows, 32))
    with pytest.raises(ConfigurationError, match=r"ru_RU has a vocabulary of its own: export each of these alone"):
        xmodular.export(model, tmp_path / "graph", languages="ru,de", format="torch", tokenizer=tmp_path)
    made = xmodular.export(model, tmp_path / "graph", languages="ru", format="torch")
    assert made.checked[0].max_difference <= 1e-4
    assert (tmp_path / "graph" / "tokenizer.ru_RU.json").is_file()
    assert model.languages == tuple(LANGUAGES)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HEADS, "regress"])
def test_every_head_has_a_graph(folders: dict[str, Path], name: str, tmp_path: Path) -> None:
    needs_onnx()
    made = xmodular.export(folders[name], tmp_path / "graph", languages="ru,de,sw")
    assert all(each.max_difference <= 1e-4 for each in made.checked)
    if name in TEXTS:
        ours, theirs = (Predictor(each)(TEXTS[name]) for each in (folders[name], tmp_path / "graph"))
        assert list(map(shown, ours)) == list(map(shown, theirs))
    if name == "XmodForMaskedLM":
        (tmp_path / "de_DE.txt").write_text("Der Markt am Fluss.\n", encoding="utf-8")
        with pytest.raises(ConfigurationError, match="exported language model; for perplexity"):
            xmodular.evaluate(tmp_path / "graph", f"de={tmp_path / 'de_DE.txt'}")


@pytest.mark.slow
def test_the_bare_encoder_has_a_graph_too(tmp_path: Path, small_tokenizer: PreTrainedTokenizerFast) -> None:
    needs_onnx()
    model = tiny_model(
        xmodular.XmodModel, "sdpa", vocab_size=len(small_tokenizer), languages=LANGUAGES, max_position_embeddings=80
    )
    small_tokenizer.save_pretrained(tmp_path / "tokenizer")
    made = xmodular.export(model, tmp_path / "graph", languages="sw", tokenizer=tmp_path / "tokenizer")
    assert made.outputs == ("last_hidden_state", "pooler_output")
    encoder = load_exported(tmp_path / "graph")
    ids = torch.tensor([[0, 9, 8, 2], [0, 5, 2, 1]])
    with torch.no_grad():
        expected = model(ids, model.lang_ids("sw"), ids.ne(1).long())
    found = encoder(input_ids=ids, attention_mask=ids.ne(1).long())
    torch.testing.assert_close(found["pooler_output"], expected.pooler_output, atol=1e-5, rtol=0)
    torch.testing.assert_close(found["last_hidden_state"], expected.last_hidden_state, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_eight_bits_are_near_and_smaller(tmp_path: Path, small_tokenizer: PreTrainedTokenizerFast) -> None:
    needs_onnx()
    model = tiny_model(
        xmodular.XmodForSequenceClassification,
        "sdpa",
        vocab_size=3000,
        hidden_size=64,
        languages=LANGUAGES,
        max_position_embeddings=80,
    )
    small_tokenizer.save_pretrained(tmp_path / "tokenizer")
    more = {"languages": "sw,de", "tokenizer": tmp_path / "tokenizer"}
    full = xmodular.export(model, tmp_path / "full", **more)
    small = xmodular.export(model, tmp_path / "small", int8=True, **more)
    assert small.bytes < 0.5 * full.bytes
    assert 1e-4 < max(each.max_difference for each in small.checked) < 0.5
    assert isinstance(load_exported(tmp_path / "small"), ExportedModel)
    assert not (tmp_path / "small" / "fp32").exists()
    with pytest.raises(InputError, match="cannot read this batch"):
        load_exported(tmp_path / "small")(input_ids=torch.full((1, 200), 5), lang_ids=torch.tensor([0]))


def shown(prediction: dict[str, Any]) -> dict[str, Any]:
    """A prediction with its numbers to three places."""
    return json.loads(json.dumps(prediction), parse_float=lambda text: round(float(text), 3))
