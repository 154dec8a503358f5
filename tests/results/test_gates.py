"""Gates on results: floors, drops, what a file may say, and what is refused before any work."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.results.samples import made_up
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.results import Comparison, Results, Row
from xmodular.results.gates import check_gates, gated, read_gates

LANGUAGES = ("en_XX", "de_DE", "sw_KE")


def results(metric="accuracy", run="topic", half=0.05, **values: float) -> Results:
    """One run, whose values are given by language."""
    rows = [
        Row(run, "classify", code, metric, "right", value, value - half, value + half, 200, source="en_XX")
        for code, value in values.items()
    ]
    return Results(tuple(rows), "en_XX")


def judged(found: Results, table, *, whole=True) -> dict[tuple[str, str], bool]:
    checked = check_gates(
        read_gates(table),
        task="classify",
        metrics=found.metrics(),
        languages=found.languages(),
        runs=found.runs(),
        adapters={"right"},
    )
    return {(each.kind, each.language): each.passed for each in gated(found, checked, whole=whole)}


def test_floors_by_language_with_a_default_and_the_mean():
    found = results(en_XX=0.9, de_DE=0.7, sw_KE=0.5)
    assert judged(found, {"floors": {"default": 0.6, "sw": 0.5, "mean": 0.61}}) == {
        ("floor", "en_XX"): True,
        ("floor", "de_DE"): True,
        ("floor", "sw_KE"): True,
        ("floor", "mean"): False,  # of de and sw, 0.6: the source is left out, as in every mean
    }
    assert judged(found, {"floors": 0.6})["floor", "sw_KE"] is False
    assert ("floor", "sw_KE") not in judged(found, {"floors": {"default": 0.6, "sw": None}})


def test_of_perplexity_less_is_better():
    found = results("perplexity", en_XX=10.0, de_DE=30.0)
    assert judged(found, {"ceilings": {"default": 20}}) == {("ceiling", "en_XX"): True, ("ceiling", "de_DE"): False}
    with pytest.raises(ConfigurationError, match="write ceilings instead of floors"):
        judged(found, {"floors": 20})


def test_a_value_that_is_no_number_fails():
    assert judged(results(de_DE=math.nan), {"floors": 0.0}) == {("floor", "de_DE"): False}


def test_a_drop_counts_beyond_chance_or_strictly(tmp_path):
    results(en_XX=0.9, de_DE=0.70, sw_KE=0.6).to_json(tmp_path / "results.json")
    now = results(en_XX=0.9, de_DE=0.66, sw_KE=0.5)
    against = str(tmp_path)
    # The interval of the difference is 0.05 times the root of 2 to both sides: 0.071.
    assert judged(now, {"against": against, "largest_drop": 0.02}) == {
        ("drop", "en_XX"): True,
        ("drop", "de_DE"): True,  # 0.04, within chance
        ("drop", "sw_KE"): False,  # 0.10
    }
    strict = judged(
        now, {"against": against, "largest_drop": {"default": 0.02, "sw": 0.2, "mean": 0.08}, "strict": True}
    )
    assert strict["drop", "de_DE"] is False
    assert strict["drop", "sw_KE"] is True
    assert strict["drop", "mean"] is True  # 0.07


def test_interval_of_a_drop_against_earlier_results(tmp_path):
    results(half=0.03, de_DE=0.7).to_json(tmp_path / "old.json")
    table = {"against": str(tmp_path / "old.json"), "largest_drop": 0.0}
    (gate,) = check_gates(read_gates(table), task="classify", metrics=["accuracy"], languages=["de_DE"], runs=["topic"])
    (outcome,) = gated(results(half=0.04, de_DE=0.64), [gate])
    assert (outcome.before, outcome.value) == (0.7, 0.64)
    assert outcome.low == pytest.approx(0.06 - 0.05)  # the roots of the sums of squares: 3, 4, 5
    assert outcome.high == pytest.approx(0.06 + 0.05)
    assert not outcome.passed


def test_a_language_that_is_not_scored_any_more_fails_unless_only_some_were_asked_for(tmp_path):
    results(en_XX=0.9, de_DE=0.7, sw_KE=0.6).to_json(tmp_path / "results.json")
    now = results(en_XX=0.9, de_DE=0.7)
    table = {"against": str(tmp_path), "largest_drop": 0.02}
    assert judged(now, table)["drop", "sw_KE"] is False
    assert ("drop", "sw_KE") not in judged(now, table, whole=False)
    grown = results(en_XX=0.9, de_DE=0.7, sw_KE=0.6, gsw=0.1)
    assert judged(grown, table)["drop", "gsw"] is True  # it had no value to drop from


def test_models_of_one_evaluation_are_compared_on_the_same_rows():
    """The p-value and the interval are those of the comparison, narrower than two intervals would be."""
    both = (*results(run="old", de_DE=0.70).rows, *results(run="new", de_DE=0.66).rows)
    compared = Comparison(
        "new", "right", "old", "right", "classify", "accuracy", "de_DE", -0.04, -0.07, -0.01, 0.01, 0.01, 9
    )
    assert judged(Results(both, "en_XX", (compared,)), {"largest_drop": 0.02}) == {("drop", "de_DE"): False}
    unsure = replace(compared, low=-0.09, high=0.01)
    assert judged(Results(both, "en_XX", (unsure,)), {"largest_drop": 0.02}) == {("drop", "de_DE"): True}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"floor": 0.5}, "did you mean 'floors'"),
        ({"metric": "accuracy"}, "sets no limit"),
        ({"floors": {}}, "sets no limit"),
        ({"floors": {"de": "0.5"}}, "floors of de must be a number"),
        ({"floors": {False: 0.5}}, "in quotes"),  # what YAML makes of no, Norwegian
        ({"floors": {"dee": 0.5}}, "names 'dee', which is not scored"),
        ({"floors": {"fr": 0.5}}, "names 'fr', which is not scored"),
        ({"floors": {"de": 0.5, "de_DE": 0.6}}, "names de_DE twice"),
        ({"floors": 85}, "a share between 0 and 1"),
        ({"floors": 0.5, "metric": "acuracy"}, "did you mean 'accuracy'"),
        ({"floors": 0.5, "adapter": "owned"}, "it must be own"),
        ({"floors": 0.5, "adapter": "source"}, "does not score"),
        ({"floors": 0.5, "run": "topics"}, "did you mean 'topic'"),
        ({"floors": 0.5, "strict": True}, "belong to largest_drop"),
        ({"floors": 0.5, "task": "tag"}, "no gate is for the task classify"),
        ({"largest_drop": 0.1}, "needs something to compare with"),
        ({"gates": [], "strict": True}, "beside gates"),
        ({"gates": 3}, "must be a list"),
    ],
)
def test_what_is_refused(table, said):
    with pytest.raises((ConfigurationError, LanguageError), match=said):
        judged(results(en_XX=0.9, de_DE=0.7), table)


def test_results_to_compare_with_must_be_there_and_fit(tmp_path):
    with pytest.raises(DataError, match=r"last\.json does not contain results"):
        read_gates({"against": str(tmp_path / "last.json"), "largest_drop": 0})
    results("macro-F1", de_DE=0.7).to_json(tmp_path / "results.json")
    with pytest.raises(ConfigurationError, match="have no accuracy"):
        judged(results(de_DE=0.7), {"against": str(tmp_path), "largest_drop": 0})


def test_the_file_names_results_from_its_own_folder(tmp_path):
    results(de_DE=0.7).to_json(tmp_path / "results.json")
    path = tmp_path / "gates.yaml"
    path.write_text("gates:\n- floors: {default: 0.6, de: 0.7}\n- against: .\n  largest-drop: 0.0\n")
    assert judged(results(de_DE=0.7), path) == {("floor", "de_DE"): True, ("drop", "de_DE"): True}


def test_outcomes_go_out_and_come_back_and_are_shown(tmp_path):
    found = made_up(languages=LANGUAGES)
    table = {"floors": {"default": 0.2, "sw": 0.99}}
    gates = check_gates(
        read_gates(table), task="classify", metrics=found.metrics(), languages=LANGUAGES, runs=["topic"]
    )
    found = replace(found, gates=gated(found, gates))
    assert not found.passed
    found.save(tmp_path)
    assert Results.from_json(tmp_path / "results.json") == found
    page, text = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "results.md"))
    for shown in (page, text):
        assert "FAILED" in shown
        assert "at least 99.0" in shown
    console = Console(width=150, record=True)
    console.print(found.gate_table())
    said = console.export_text()
    assert "1 of 3 failed" in said
    assert said.index("FAILED") < said.index("passed")


def test_the_guide_shows_gates_that_can_be_read(tmp_path):
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "gates.md").read_text(encoding="utf-8")
    results(de_DE=0.7).to_json(tmp_path / "results.json")
    path = tmp_path / "gates.yaml"
    shown = re.search("^```yml\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)[1]
    path.write_text(shown.replace("last/results.json", "results.json"))
    first, second, third = read_gates(path)
    assert first.floors == {"default": 0.7, "de": 0.85, "sw": 0.6, "mt": None, "mean": 0.75}
    assert (second.metric, second.adapter, second.floors) == ("macro-F1", "source", {"default": 0.6})
    assert third.baseline == results(de_DE=0.7)
