"""Evaluation: which adapter reads what, constant guesses, results in and out."""

import copy
import gzip
import json
import math
from dataclasses import replace

import pytest
import torch

from tests.conftest import MINIATURE
from tests.support import with_own_vocabulary
from xmodular import evaluate
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.results import Results
from xmodular.training import finetune, pretrain


@pytest.fixture(scope="module")
def strong(topic_run):
    """The classifier with all its weights drawn large, so that answers vary with text and adapter."""
    model = copy.deepcopy(topic_run.model)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "position" not in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return replace(topic_run, model=model)


@pytest.fixture(scope="module")
def results(strong, corpus) -> Results:
    return evaluate(strong.model, corpus / "topic")


def accuracy(run, path, adapter: str) -> float:
    """By hand, one row at a time."""
    right = 0
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        ids = torch.tensor([run.tokenizer(row["text"], truncation=True, max_length=32)["input_ids"]])
        with torch.no_grad():
            logits = run.model(ids, lang_ids=run.model.lang_ids(adapter)).logits
        right += run.model.config.id2label[int(logits.argmax())] == row["label"]
    return right / len(rows)


def test_each_column_is_read_by_its_adapter(results, strong, corpus):
    assert results.source == "en_XX"
    assert results.languages() == ["en_XX", "de_DE", "sw_KE"]
    for language in ("de_DE", "sw_KE"):
        path = corpus / "topic" / f"{language}.test.jsonl"
        assert results.value(language, "right").value == pytest.approx(accuracy(strong, path, language))
        assert results.value(language, "source").value == pytest.approx(accuracy(strong, path, "en_XX"))
    # ... and the adapters do decide
    assert results.value("sw_KE", "right").value != results.value("sw_KE", "source").value
    assert results.value("en_XX", "source") is None  # it would be the same
    for language in results.languages():
        row = results.value(language)
        assert row.low <= row.value <= row.high
        assert row.rows == 40


def test_constant_guesses(results, corpus):
    for language in results.languages():
        lines = (corpus / "topic" / f"{language}.test.jsonl").read_text(encoding="utf-8").splitlines()
        labels = [json.loads(line)["label"] for line in lines]
        most = max(labels.count("rare"), labels.count("common")) / len(labels)
        assert results.value(language, "majority").value == pytest.approx(most)
        assert results.value(language, "uniform").value == 0.5


def test_means_leave_the_source_out(results):
    values = [results.value(language).value for language in ("de_DE", "sw_KE")]
    assert results.mean() == pytest.approx(sum(values) / 2)
    assert results.mean("source") is not None
    assert results.mean(transfer=False) == pytest.approx((sum(values) + results.value("en_XX").value) / 3)


def test_results_go_out_and_come_back(results, tmp_path):
    results.to_json(tmp_path / "r.json")
    assert Results.from_json(tmp_path / "r.json") == results
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match=r"bad.json does not contain results"):
        Results.from_json(tmp_path / "bad.json")
    text = results.markdown()
    assert "### classify: accuracy" in text
    assert "### classify: macro-F1" in text
    assert "| en_XX (source) | 40 |" in text
    assert "| mean, others |" in text


def test_details_count_what_the_predictions_say(topic_run, corpus, tmp_path):
    results = evaluate(
        topic_run.output_dir, corpus / "topic", output_dir=tmp_path, predictions=True, adapter=("source", "right")
    )
    lines = (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["adapter"] == "right"]
    assert {each.language for each in results.details} == set(results.languages())
    for each in results.details:
        own = [(row["gold"], row["prediction"]["label"]) for row in rows if row["language"] == each.language]
        for place, name in enumerate(each.labels):
            assert each.gold[place] == sum(gold == name for gold, _ in own)
            assert each.predicted[place] == sum(said == name for _, said in own)
            assert each.right[place] == sum(gold == said == name for gold, said in own)
    assert Results.from_json(tmp_path / "results.json").details == results.details
    assert "By label" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_saved_files(topic_run, corpus, tmp_path):
    evaluate(topic_run.model, {"sw": corpus / "topic" / "sw_KE.test.jsonl"}, output_dir=tmp_path)
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    assert Results.from_json(tmp_path / "results.json").languages() == ["sw_KE"]
    assert "sw_KE" in (tmp_path / "results.md").read_text()


def test_tagging(base_run, corpus, tmp_path):
    run = finetune(
        base_run.output_dir,
        corpus / "tag" / "en_XX.train.conll",
        task="tag",
        language="en",
        output_dir=tmp_path,
        max_steps=40,
        batch_size=8,
        learning_rate=1e-2,
    )
    results = evaluate(run.model, corpus / "tag", languages=("en", "Swahili"))
    assert results.metrics() == ["F1", "precision", "recall", "accuracy"]
    assert results.languages() == ["en_XX", "sw_KE"]
    assert results.value("en_XX").value > 0.9
    assert results.value("en_XX", "majority").value == 0.0
    assert results.value("en_XX", "majority", "accuracy").value > 0.5


def test_perplexity_with_and_without_switching(base_run, corpus, tmp_path):
    results = evaluate(base_run.model, corpus / "text", source="English", max_length=32)
    assert results.metrics() == ["perplexity", "bits per character", "accuracy"]
    assert results.value("de_DE", "right").value != results.value("de_DE", "source").value
    assert results.value("en_XX", "source") is None
    assert results.value("de_DE", "uniform").value == pytest.approx(len(base_run.tokenizer))
    alone = evaluate(base_run.model, corpus / "text", max_length=32)
    for path in (corpus / "text").glob("*.txt"):
        (tmp_path / f"{path.stem}.TXT.GZ").write_bytes(gzip.compress(path.read_bytes()))
    assert evaluate(base_run.model, tmp_path, max_length=32).rows == alone.rows
    assert alone.value("de_DE", "source") is None
    assert alone.value("de_DE").value == pytest.approx(results.value("de_DE").value, rel=1e-4)


def test_a_text_is_read_with_all_its_lines_and_what_is_lost_is_said(base_run, corpus, tmp_path, capsys):
    (path,) = (corpus / "text").glob("de_DE*.txt")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if len(line) < 30][:10]
    (tmp_path / "de_DE.txt").write_text("\n".join([*lines, *lines[:1] * 90, "", "\x00"]), encoding="utf-8")
    (tmp_path / "sw_KE.txt").write_text("ЖЖ mto\n" * 30, encoding="utf-8")
    options = {"source": "English", "packing": "lines"}
    results = evaluate(base_run.model, tmp_path, **options)
    assert results.value("de_DE", "right").rows == 100
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("Lines") == 1  # not again for every adapter
    assert "de_DE │ 102 │ 100 │ 2" in said
    assert "the vocabulary does not suit sw_KE" in said
    assert "does not suit de_DE" not in said
    # A random guess of a piece does not spell unknown text either.
    assert results.value("sw_KE", "uniform").value > 10 * len(base_run.tokenizer)
    # What is unknown costs its bytes, so the other line is no worse than it.
    (tmp_path / "sw_KE.txt").write_text("mto\n" * 30, encoding="utf-8")
    known = evaluate(base_run.model, tmp_path, **options)
    bits = [each.value("sw_KE", "right", "bits per character").value for each in (known, results)]
    assert 3 * bits[1] == pytest.approx((bits[0] * 4 + 8 * len("ЖЖ".encode())) / 7 * 3, rel=0.35)


def test_files_in_other_languages_are_left_out_aloud(topic_run, corpus, tmp_path, capsys):
    for name in ("sw_KE", "ta_IN"):
        (tmp_path / f"{name}.test.jsonl").write_text('{"text": "mto", "label": "rare"}\n')
    assert evaluate(topic_run.model, tmp_path).languages() == ["sw_KE"]
    assert "Left out, not among the model's languages: ta_IN" in capsys.readouterr().err


def test_a_relative_reads_what_the_model_lacks(strong, corpus, tmp_path, capsys, caplog):
    text = (corpus / "topic" / "de_DE.test.jsonl").read_text(encoding="utf-8")
    for name in ("sw_KE", "gsw", "ta_IN"):
        (tmp_path / f"{name}.test.jsonl").write_text(text, encoding="utf-8")
    results = evaluate(strong.model, tmp_path, fallback="relative", output_dir=tmp_path / "out")
    assert results.languages() == ["gsw", "sw_KE"]
    assert results.value("gsw", "right") is None
    assert results.value("gsw", "relative").value == pytest.approx(
        accuracy(strong, tmp_path / "gsw.test.jsonl", "de_DE")
    )
    assert results.value("sw_KE", "relative") is None
    assert results.value("gsw", "relative").value != results.value("sw_KE", "right").value  # the adapter decides
    for language in ("gsw", "sw_KE"):
        assert results.value(language, "source").value == pytest.approx(
            accuracy(strong, tmp_path / "gsw.test.jsonl", "en_XX")
        )
    said = capsys.readouterr().err
    assert "gsw.test.jsonl uses the adapter of de_DE, its nearest relative" in said
    assert "Left out, not among the model's languages: ta_IN" in said
    assert "gsw is not in the model: using the adapter of its nearest relative, de_DE" in caplog.messages
    assert "| language | rows | own adapter | relative's adapter | source adapter |" in results.markdown()
    assert Results.from_json(tmp_path / "out" / "results.json") == results


def test_a_relative_that_is_the_source_is_read_once(strong, corpus):
    results = evaluate(
        strong.model,
        {"sco": corpus / "topic" / "en_XX.test.jsonl", "de": corpus / "topic" / "de_DE.test.jsonl"},
        languages=("Scots",),
        fallback="relative",
    )
    assert results.languages() == ["sco"]
    assert results.value("sco", "relative") is not None
    assert results.value("sco", "source") is None


def test_perplexity_by_a_relative(base_run, corpus):
    (path,) = (corpus / "text").glob("de_DE*.txt")
    options = {"source": "English", "max_length": 32, "fallback": "relative"}
    alone = evaluate(base_run.model, {"gsw": path}, **options)
    own = evaluate(base_run.model, {"de": path}, **options)
    assert alone.value("gsw", "relative").value == pytest.approx(own.value("de_DE", "right").value)
    assert alone.value("gsw", "source").value == pytest.approx(own.value("de_DE", "source").value)


def test_errors(topic_run, base_run, corpus, tmp_path):
    with pytest.raises(DataError, match=r"no files <language>.test.jsonl .* in"):
        evaluate(topic_run.model, tmp_path)
    with pytest.raises(LanguageError, match="Tamil"):
        evaluate(topic_run.model, {"Tamil": corpus / "topic" / "sw_KE.test.jsonl"})
    (tmp_path / "sw_KE.test.jsonl").write_text('{"text": "mto", "label": "unheard"}\n')
    with pytest.raises(DataError, match=r"sw_KE.test.jsonl: none of its labels .* It has unheard; .* has common, rare"):
        evaluate(topic_run.model, tmp_path)
    with pytest.raises(ConfigurationError, match="does not record its training language: give it with --source"):
        evaluate(base_run.model, corpus / "text", adapter=("source",))
    (tmp_path / "de.txt").write_bytes(b"gut\n" + "schön wär's\n".encode("latin1") * 9)
    with pytest.raises(DataError, match=r"9 of 10 lines of de_DE cannot be read \(9 are not UTF-8\), in .*de\.txt"):
        evaluate(base_run.model, tmp_path / "de.txt")


def test_a_vocabulary_of_its_own_is_read_by_its_own_tokenizer(strong, results, corpus):
    own = evaluate(with_own_vocabulary(strong), corpus / "topic")
    assert own.rows == tuple(replace(row, run=own.rows[0].run) for row in results.rows)


def test_perplexity_with_a_vocabulary_of_its_own(base_run, corpus):
    files = {code: corpus / "text" / f"{code}.made.txt" for code in ("de_DE", "sw_KE")}
    plain = evaluate(base_run.model, files, source="de")
    own = evaluate(with_own_vocabulary(base_run), files, source="de")
    assert {(row.language, row.adapter, row.metric) for row in own.rows} == {
        (row.language, row.adapter, row.metric) for row in plain.rows
    }
    assert len(own.rows) == len(plain.rows)
    for row in plain.rows:
        if row.metric == "perplexity" and row.adapter == "right":  # the same model, other random pieces in the masks
            assert own.value(row.language, "right", "perplexity").value == pytest.approx(row.value, rel=0.1)


def test_the_training_language_may_be_gone(strong, results, corpus):
    model = copy.deepcopy(strong.model)
    model.remove_language("en")
    without = evaluate(model, {"de": corpus / "topic" / "de_DE.test.jsonl"})
    assert without.source is None
    assert without.value("de_DE", "right").value == results.value("de_DE", "right").value
    with pytest.raises(LanguageError):
        evaluate(model, {"de": corpus / "topic" / "de_DE.test.jsonl"}, source="en")


def test_fine_tuning_in_a_language_with_its_own_vocabulary_keeps_the_shared_one(base_run, corpus, tmp_path):
    model = with_own_vocabulary(base_run)
    model.save_pretrained(tmp_path / "base")
    base_run.tokenizer.save_pretrained(tmp_path / "base")
    run = finetune(
        *(tmp_path / "base", corpus / "topic" / "sw_KE.train.jsonl"),
        language="sw",
        output_dir=tmp_path / "topic",
        max_steps=2,
    )
    before, after = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("base", "topic"))
    assert before == after
    assert run.model.tokenizers.keys() == {"sw_KE"}
    rows = evaluate(tmp_path / "topic", corpus / "topic").rows
    assert {row.language for row in rows} == {"de_DE", "en_XX", "sw_KE"}


def test_a_causal_model_predicts_each_next_token(corpus, tmp_path):
    run = pretrain(
        corpus / "text",
        output_dir=tmp_path / "causal",
        objective="clm",
        vocab_size=200,
        preset="tiny",
        overrides=MINIATURE,
        block_size=32,
        max_steps=1,
    )
    lines = (corpus / "text" / "sw_KE.made.txt").read_text(encoding="utf-8").splitlines()
    short = [line for line in lines if len(run.tokenizer(line)["input_ids"]) <= 32]
    path = tmp_path / "sw_KE.txt"
    path.write_text("\n".join(short), encoding="utf-8")
    loss, count = 0.0, 0
    for line in short:
        ids = torch.tensor([run.tokenizer(line)["input_ids"]])
        with torch.no_grad():
            loss += run.model(ids, lang_ids=run.model.lang_ids("sw"), labels=ids).loss.item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    results = evaluate(run.model, {"sw": path}, packing="lines", batch_tokens=96)
    assert results.value("sw_KE", "right", "perplexity").value == pytest.approx(math.exp(loss / count), rel=1e-4)


@pytest.mark.parametrize("noted", ["abc", ["abc"], 7, {"train": 7}, {"train": "abc", "dev": [[], "abc"]}])
def test_a_note_of_another_form_is_no_note(topic_run, corpus, noted):
    model = copy.deepcopy(topic_run.model)
    model.config.task_data = noted
    assert evaluate(model, corpus / "topic", languages=["sw"]).languages() == ["sw_KE"]
    assert model.config.noted_rows("train") == []
