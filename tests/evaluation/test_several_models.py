"""Several models in one call: names, seeds, differences, a matrix of languages."""

import json
import shutil
import statistics

import numpy as np
import pytest
import torch

from xmodular import evaluate
from xmodular.errors import ConfigurationError, DataError
from xmodular.evaluation.subjects import _names
from xmodular.results import Results
from xmodular.tasks import load_saved


def test_two_models_are_compared_on_the_same_rows(make_model, feelings, tmp_path):
    one, other = make_model("one", 1), make_model("other", 2)
    results = evaluate([one, other], feelings, output_dir=tmp_path / "out", predictions=True)
    assert results.runs() == ["one", "other"]
    alone = evaluate(other, feelings)
    for code in results.languages():
        assert results.value(code, run="other") == alone.value(code)
    found = {each.language: each for each in results.comparisons if each.run != each.baseline}
    assert set(found) == {"en_XX", "de_DE", "sw_KE", None}
    rows = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    for code in results.languages():
        right = {
            run: np.array(
                [
                    row["prediction"]["label"] == row["gold"]
                    for row in rows
                    if (row["run"], row["language"], row["adapter"]) == (run, code, "right")
                ]
            )
            for run in ("one", "other")
        }
        assert found[code].difference == pytest.approx(right["other"].mean() - right["one"].mean())
        assert found[code].low <= found[code].difference <= found[code].high
        assert found[code].p_holm >= found[code].p
    others = ("de_DE", "sw_KE")  # not the source language, as in the means of the values
    assert found[None].difference == pytest.approx(statistics.fmean(found[code].difference for code in others))
    assert found[None].difference == pytest.approx(results.transfer(run="other") - results.transfer(run="one"))
    assert (found[None].languages, found["de_DE"].languages) == (2, None)
    assert found[None].rows == 60
    assert found[None].p_holm is None
    assert len(rows) == 2 * 30 * (3 + 2)  # own adapters, and the source's in the other two languages
    assert Results.from_json(tmp_path / "out" / "results.json") == results


def test_a_model_does_not_differ_from_its_copy(make_model, feelings, tmp_path):
    one = make_model("one", 1)
    shutil.copytree(one, tmp_path / "copy")
    results = evaluate([one, tmp_path / "copy"], feelings, adapter=("right",))
    assert {(each.difference, each.p) for each in results.comparisons} == {(0.0, 1.0)}


def test_what_is_scored_is_what_runs_in_a_precision(make_model, feelings, tmp_path):
    folder = make_model("one", 1)
    halves = load_saved(folder).to(torch.bfloat16)
    options = {"tokenizer": str(folder), "predictions": True}
    for name, model, more in (("a", folder, {"precision": "bf16"}), ("b", halves, {}), ("c", folder, {})):
        evaluate(model, feelings, output_dir=tmp_path / name, **options, **more)
    read = {name: (tmp_path / name / "predictions.jsonl").read_text() for name in ("a", "b", "c")}
    assert read["a"] == read["b"] != read["c"]
    assert Results.from_json(tmp_path / "a" / "results.json").about["precision"] == "bf16"


def test_seeds_are_one_run(make_model, feelings, tmp_path):
    folders = {seed: make_model(f"runs/topic/seed-{seed}", seed, options={"seed": seed}) for seed in (3, 5, 8)}
    group = tmp_path / "runs" / "topic"
    (group / "seeds.json").write_text(json.dumps({"seeds": [3, 5, 8], "metrics": {}}))
    results = evaluate(group, feelings)
    alone = {seed: evaluate(folder, feelings) for seed, folder in folders.items()}
    assert results.runs() == ["topic"]
    assert {row.seed for row in results.rows if row.adapter == "right"} == {3, 5, 8, None}
    for code in results.languages():
        values = [alone[seed].value(code).value for seed in folders]
        score = results.value(code)
        assert score.value == pytest.approx(statistics.fmean(values))
        assert score.spread == pytest.approx(statistics.stdev(values))
        assert score.seeds == 3
        assert score.low <= score.value <= score.high
        widths = [alone[seed].value(code).high - alone[seed].value(code).low for seed in folders]
        assert score.high - score.low < 1.1 * max(widths)
        assert score.rows == 30
    text = results.markdown()
    assert f"{100 * results.value('sw_KE').value:.1f} ±{100 * results.value('sw_KE').spread:.1f} [" in text


def test_seeds_that_are_not_listed_well(make_model, feelings, tmp_path):
    (tmp_path / "seeds.json").write_text("[]")
    with pytest.raises(DataError, match="does not list the seeds"):
        evaluate(tmp_path, feelings)
    (tmp_path / "seeds.json").write_text('{"seeds": []}')
    with pytest.raises(DataError, match="lists no seeds"):
        evaluate(tmp_path, feelings)
    (tmp_path / "seeds.json").write_text('{"seeds": [1]}')
    with pytest.raises(ConfigurationError, match="seed-1"):
        evaluate(tmp_path, feelings)


def test_a_matrix_of_languages(make_model, feelings, tmp_path):
    models = [make_model("en", 1), make_model("sw", 2, source="sw_KE"), make_model("sw again", 3, source="sw_KE")]
    results = evaluate(models, feelings, output_dir=tmp_path / "out")
    matrix = results.matrix()
    assert results.source is None
    assert (matrix.sources, matrix.languages) == (("en_XX", "sw_KE"), ("en_XX", "sw_KE", "de_DE"))
    assert matrix.values[0][2] == results.value("de_DE", run="en").value
    means = [results.value("de_DE", run=run).value for run in ("sw", "sw again")]
    assert matrix.values[1][2] == pytest.approx(statistics.fmean(means))
    assert (tmp_path / "out" / "matrix.png").is_file()
    assert "Trained in (row), tested in (column)" in results.markdown()
    assert results.value("en_XX", "source", run="sw").reader == "sw_KE"
    assert results.gap(run="sw") == pytest.approx(
        results.value("sw_KE", run="sw").value
        - statistics.fmean(results.value(code, run="sw").value for code in ("en_XX", "de_DE"))
    )


def test_a_mean_difference_leaves_both_source_languages_out(make_model, feelings):
    models = [make_model("en", 1), make_model("sw", 2, source="sw_KE")]
    results = evaluate(models, feelings, adapter=("right", "none"))
    found = {(each.run, each.baseline, each.language): each for each in results.comparisons}
    between = found["sw", "en", None]
    assert (between.difference, between.languages) == (found["sw", "en", "de_DE"].difference, 1)
    within = statistics.fmean(found["sw", "sw", code].difference for code in ("en_XX", "de_DE"))
    assert found["sw", "sw", None].difference == pytest.approx(within)
    alone = evaluate(models, feelings, languages=("en", "sw"), adapter=("right",))
    assert [each.language for each in alone.comparisons] == ["en_XX", "sw_KE"]  # there is no other language
    unknown = [make_model("one", 1, source=None), make_model("two", 2, source=None)]
    results = evaluate(unknown, feelings, adapter=("right",))
    assert results.comparisons[-1].language is None
    assert results.comparisons[-1].languages == 3


def test_mean_differences_of_all_runs_are_over_the_same_languages(make_model, feelings):
    models = [make_model("en", 1), make_model("also en", 3), make_model("sw", 2, source="sw_KE")]
    results = evaluate(models, feelings, adapter=("right",))
    means = [each for each in results.comparisons if each.language is None]
    assert [(each.run, each.over) for each in means] == [("also en", ("de_DE",)), ("sw", ("de_DE",))]
    alone = evaluate(models[:2], feelings, adapter=("right",))
    assert alone.comparisons[-1].over == ("de_DE", "sw_KE")
    assert "Mean over 2 languages: de_DE, sw_KE." in alone.markdown().split("### also en against en")[1]


def test_labels_in_another_order_and_more_of_them(make_model, feelings):
    turned = make_model("turned", 2, id2label={0: "sad", 1: "glad", 2: "calm"})
    more = make_model("more", 3, id2label={0: "sad", 1: "glad", 2: "calm", 3: "odd"})
    results = evaluate([make_model("one", 1), turned, more], feelings)
    assert results.value("de_DE", "uniform", run="more").value == 0.25
    assert results.value("de_DE", run="turned") == evaluate(turned, feelings).value("de_DE")


def test_labels_that_are_all_unknown_to_a_later_model_stop_before_the_first(make_model, feelings, capsys):
    with pytest.raises(
        DataError, match=r"test\.jsonl: none of its labels .* It has calm, glad, sad; two has hot, cold\."
    ):
        evaluate([make_model("one"), make_model("two", id2label={0: "hot", 1: "cold"})], feelings)
    assert "Evaluating" not in capsys.readouterr().err


def test_a_label_that_a_later_model_lacks_is_wrong_for_that_one_alone(make_model, feelings, capsys):
    models = [make_model("one"), make_model("two", id2label={0: "calm", 1: "glad"})]
    results = evaluate(models, feelings)
    assert results.value("de_DE", "uniform", run="two").value == pytest.approx(1 / 3)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("10 of 30 rows have labels that two does not know, and count as wrong: sad") == 3
    assert "one lacks" not in said
    (feelings / "sw_KE.test.jsonl").write_text('{"text": "mto", "label": "sad"}\n')
    small = make_model("small", languages=["en_XX", "de_DE"], id2label={0: "calm", 1: "glad"})
    evaluate([models[0], small], feelings)  # which does not read that file


def test_languages_that_one_model_lacks_or_calls_otherwise(make_model, feelings, capsys):
    small = make_model("small", 1, languages=["en", "de"], source="en")
    results = evaluate([make_model("one"), small], feelings)
    assert results.languages() == ["en_XX", "de_DE", "sw_KE"]
    assert results.source == "en_XX"
    assert results.value("de_DE", run="small").reader == "de"
    assert results.value("sw_KE", run="small") is None
    assert "small lacks sw_KE." in capsys.readouterr().err
    between = [each.language for each in results.comparisons if each.run != each.baseline]
    assert between == ["de_DE", "en_XX", None]


def test_models_that_do_not_go_together(make_model, feelings):
    one = make_model("one")
    with pytest.raises(ConfigurationError, match=r"need the same task; these differ: .*XmodForTokenClassification"):
        evaluate([one, make_model("tags", cls="XmodForTokenClassification")], feelings)
    with pytest.raises(ConfigurationError, match="named twice"):
        evaluate([one, one], feelings)
    with pytest.raises(DataError, match=r"without a task head is scored by retrieval.*fine-tune it first"):
        evaluate(make_model("bare", cls="XmodModel"), feelings)


def test_names_differ():
    assert _names(["runs/a/topic", "runs/b/topic"]) == ["a/topic", "b/topic"]
    assert _names(["runs/topic", "me/names"]) == ["topic", "names"]
    assert _names(["model", "model"]) == ["model", "model 2"]
