"""What a `Predictor` says against the model's own logits, row by row; whose adapter reads what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tests.prediction.conftest import SENTENCES
from xmodular import Predictor, evaluate, predict
from xmodular.errors import ConfigurationError, DataError, InputError
from xmodular.rows import BadRows, DataRow
from xmodular.tasks import load_saved, tokenizer_of
from xmodular.tasks.examples import examples

TEXTS = [text for texts in SENTENCES.values() for text in texts]
SPOKEN = [code for code, texts in SENTENCES.items() for _ in texts]


def test_each_row_is_read_by_its_own_adapter(topic: Path) -> None:
    model = load_saved(topic).eval()
    tokenizer = tokenizer_of(model, None)
    predictor = Predictor(model, batch_tokens=64, window=3)
    found = predictor(TEXTS, SPOKEN)
    for text, code, prediction in zip(TEXTS, SPOKEN, found, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            scores = model(**inputs, lang_ids=model.lang_ids(code)).logits[0].softmax(-1)
        assert prediction["label"] == model.config.id2label[int(scores.argmax())]
        assert prediction["score"] == pytest.approx(float(scores.max()), abs=1e-4)
        assert prediction["language"] == prediction["adapter"] == code
    assert predictor.tokens == sum(len(ids) for ids in tokenizer(TEXTS)["input_ids"])


@pytest.mark.parametrize("given", ["folder", "object"])
def test_a_precision_is_that_of_weights_and_computation(topic: Path, given: str) -> None:
    model = load_saved(topic)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    halves = load_saved(topic).to(torch.bfloat16)
    source = topic if given == "folder" else model
    found = Predictor(source, tokenizer_of(model, None), precision="bf16")(TEXTS, SPOKEN)
    assert found == Predictor(halves, tokenizer_of(model, None))(TEXTS, SPOKEN)
    assert found != Predictor(topic)(TEXTS, SPOKEN)
    assert Predictor(source, tokenizer_of(model, None), precision="fp32")(TEXTS, SPOKEN) == Predictor(topic)(
        TEXTS, SPOKEN
    )
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(ConfigurationError, match="precision is 'bf17': it must be one of keep, fp32, bf16, fp16"):
        Predictor(source, precision="bf17")  # type: ignore[arg-type]


def test_neither_batches_nor_windows_change_what_is_said(topic: Path) -> None:
    one = Predictor(topic, batch_tokens=1, window=1)(TEXTS * 3, SPOKEN * 3)
    many = Predictor(topic, batch_tokens=4096, window=500)(TEXTS * 3, SPOKEN * 3)
    assert [row["label"] for row in one] == [row["label"] for row in many]
    assert [row["score"] for row in one] == pytest.approx([row["score"] for row in many], abs=1e-4)


def test_a_stream_is_read_window_by_window(topic: Path) -> None:
    taken = []

    def endless():
        while True:
            taken.append(None)
            yield {"text": TEXTS[len(taken) % 8], "language": SPOKEN[len(taken) % 8]}

    answers = Predictor(topic, window=4).stream(endless())
    first = [next(answers) for _ in range(5)]
    assert [row["adapter"] for row in first] == [SPOKEN[number % 8] for number in range(1, 6)]
    assert len(taken) <= 9


def test_every_task_predicts(folders: dict[str, Path]) -> None:
    context, question = " ".join(SENTENCES["en_XX"]), "Who opens the house?"
    asked = {
        "XmodForSequenceClassification": ([("A doctor.", "A house."), ("Bread.", "Bread!")], {"label", "score"}),
        "regress": ([TEXTS[0], TEXTS[1]], {"score"}),
        "XmodForTokenClassification": ([["The", "old", "house"], TEXTS[0]], {"tags", "scores", "spans"}),
        "XmodForQuestionAnswering": ([{"context": context, "question": question}] * 2, {"answer", "start", "end"}),
        "XmodForMultipleChoice": (
            [{"context": "The doctor", "choices": ["opens it.", "likes it.", "sees."]}] * 2,
            {"choice", "score"},
        ),
    }
    for name, (rows, keys) in asked.items():
        found = Predictor(folders[name])(rows, "en")
        assert len(found) == 2
        for prediction in found:
            assert keys <= set(prediction), name
            assert (prediction["language"], prediction["adapter"]) == ("en_XX", "en_XX")
    answer = Predictor(folders["XmodForQuestionAnswering"])([{"context": context, "question": question}], "en")[0]
    assert context[answer["start"] : answer["end"]] == answer["answer"]


def test_languages_go_from_row_to_call_to_default(topic: Path) -> None:
    rows = [{"text": "a", "language": "Swahili"}, {"text": "a"}]
    assert [row["adapter"] for row in Predictor(topic)(rows, "de")] == ["sw_KE", "de_DE"]
    assert [row["adapter"] for row in Predictor(topic, default_language="ru")(rows)] == ["sw_KE", "ru_RU"]
    assert Predictor(topic)([("a", "b")], ["sw"])[0]["adapter"] == "sw_KE"
    with pytest.raises(DataError, match=r"row 1: its language is not known: give --language, .*column.*--identify"):
        Predictor(topic)(rows)
    with pytest.raises(DataError, match=r"row 0: .*Klingon"):
        Predictor(topic)(["a"], "Klingon")
    with pytest.raises(InputError, match="2 rows and 1 languages"):
        Predictor(topic)(["a", "b"], ["de"])


def test_a_relative_reads_what_the_model_lacks(topic: Path) -> None:
    (found,) = Predictor(topic, fallback="relative")(["Grüezi"], "gsw")
    assert (found["language"], found["adapter"]) == ("gsw", "de_DE")


def test_languages_are_identified(topic: Path) -> None:
    predictor = Predictor(topic, identify=True, threshold=0.3)
    found = predictor([*TEXTS, "12345", {"text": "x", "language": "de"}])
    assert [row["language"] for row in found[:8]] == SPOKEN
    assert all(0.3 <= row["confidence"] <= 1 for row in found[:8])
    assert found[8]["language"] is None
    assert found[8]["adapter"] == "en_XX"  # the language that the model was fine-tuned in
    assert found[8]["confidence"] == 0
    assert predictor.adapters.unsure == 1
    assert (found[9]["language"], found[9]["confidence"]) == ("de_DE", None)
    assert Predictor(topic, identify=True, default_language="sw")(["12345"])[0]["adapter"] == "sw_KE"


def test_identification_needs_somebody_to_read_what_stays_unsure(topic: Path) -> None:
    model = load_saved(topic)
    model.config.task_language = None
    with pytest.raises(ConfigurationError, match="choose the adapter for them with --default-language"):
        Predictor(model, identify=True)


def test_a_vocabulary_of_its_own_is_read_with_its_own_tokenizer(
    topic: Path, small_tokenizer: PreTrainedTokenizerFast
) -> None:
    model = load_saved(topic)
    plain = Predictor(model)(TEXTS, SPOKEN)
    own = small_tokenizer.backend_tokenizer
    words = torch.randn(len(small_tokenizer), model.config.hidden_size)
    model.set_vocabulary("sw", own.to_str(), words)
    found = Predictor(model)(TEXTS, SPOKEN)
    for code, before, after in zip(SPOKEN, plain, found, strict=True):
        assert (before["score"] == pytest.approx(after["score"], abs=1e-5)) == (code != "sw_KE")


def test_what_has_no_task_is_named(folders: dict[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match=r"XmodForMaskedLM without a task head.*fill-mask"):
        Predictor(folders["XmodForMaskedLM"])
    with pytest.raises(InputError, match="give a list of rows"):
        Predictor(folders["regress"])("text")
    with pytest.raises(InputError, match="row 0 is 7: give a text"):
        Predictor(folders["regress"])([7], "de")


def test_numbers_out_of_range_are_refused(topic: Path) -> None:
    for name, value in (("window", 0), ("batch_tokens", 0), ("threshold", 1.5)):
        with pytest.raises(ConfigurationError, match=f"{name} is {value}"):
            Predictor(topic, **{name: value})


def test_rows_are_read_as_they_were_scored(topic: Path, tmp_path: Path) -> None:
    model, tokenizer = load_saved(topic), tokenizer_of(load_saved(topic), None)
    model.config.task_max_length, model.config.task_stride = 10, 2
    long = [{"text": f"{text} {text}", "label": "calm"} for text in TEXTS]
    source = tmp_path / "en.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in long), encoding="utf-8")
    evaluate(model, source, tokenizer=str(topic), output_dir=tmp_path / "eval", predictions=True)
    scored = [json.loads(line) for line in (tmp_path / "eval" / "predictions.jsonl").read_text().splitlines()]
    served = Predictor(model, tokenizer)([row["text"] for row in long], "en")
    assert [row["prediction"]["score"] for row in scored] == [row["score"] for row in served]
    whole = Predictor(model, tokenizer, max_length=60)([row["text"] for row in long], "en")
    assert [row["score"] for row in whole] != [row["score"] for row in served]


def test_outputs_that_are_no_numbers_are_no_predictions(
    topic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_saved(topic)
    with torch.no_grad():
        model.roberta.encoder.layer[0].output.adapter_modules["sw_KE"].dense2.bias[0] = torch.nan
    model.save_pretrained(tmp_path / "model")
    tokenizer_of(load_saved(topic), None).save_pretrained(tmp_path / "model")
    found = Predictor(tmp_path / "model")(TEXTS, SPOKEN)
    assert [row["label"] is None and row["score"] is None for row in found] == [code == "sw_KE" for code in SPOKEN]
    source = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text": text, "language": code}) for text, code in zip(TEXTS, SPOKEN, strict=True)]
    source.write_text("\n".join(lines), encoding="utf-8")
    predict(tmp_path / "model", source, tmp_path / "out.jsonl")
    assert "NaN" not in (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert f"{SPOKEN.count('sw_KE')} rows have no prediction" in " ".join(capsys.readouterr().err.split())


def test_progress_counts_rows_and_not_their_windows(folders: dict[str, Path]) -> None:
    predictor = Predictor(folders["XmodForQuestionAnswering"], max_length=40, stride=4)
    context = " ".join(SENTENCES["en_XX"] * 20)
    row = DataRow({"question": "Who?", "context": context}, "row 0", "en_XX")
    told: list[float] = []
    predictor.predict(list(examples(predictor.task, [row] * 2, BadRows(), gold=False)), told.append)
    assert sum(told) == pytest.approx(2)


@pytest.mark.parametrize("wrong", [5.5, True, {}, ["x"], [None], [{"text": "not there", "answer_start": -1}]])
def test_gold_is_not_looked_at(folders: dict[str, Path], wrong: object) -> None:
    rows = {
        "XmodForSequenceClassification": ({"text": "a"}, ["label"]),
        "regress": ({"text": "a"}, ["score", "label"]),
        "XmodForTokenClassification": ({"words": ["a", "b"]}, ["tags", "ner_tags", "labels"]),
        "XmodForQuestionAnswering": ({"question": "a", "context": "b c"}, ["answers", "answer"]),
        "XmodForMultipleChoice": ({"context": "a", "choices": ["b", "c"]}, ["label", "answer"]),
    }
    for name, (row, columns) in rows.items():
        predictor = Predictor(folders[name])
        (expected,) = predictor([row], "en")
        for column in columns:
            assert predictor([{**row, column: wrong}], "en") == [expected], (name, column)
