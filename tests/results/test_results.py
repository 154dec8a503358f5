"""Results: questions to rows, formats of the file, tables."""

import json
import math
import re
import statistics
from dataclasses import replace

import pytest
from rich.console import Console

from tests.results.samples import made_up
from xmodular.errors import DataError
from xmodular.results import Comparison, Results, Row, score_pictures
from xmodular.results.score_tables import signed


def row(language, value, adapter="right", metric="accuracy", run="topic", **more):
    return Row(run, "classify", language, metric, adapter, value, None, None, 10, **more)


def test_own_is_another_name_of_the_right_adapter():
    results = Results((row("de_DE", 0.5), row("de_DE", 0.25, adapter="source")), "en_XX")
    assert results.value("de_DE", "own").value == results.value("de_DE", "right").value == 0.5
    assert results.mean("own") == results.mean("right")


def test_means_gap_and_worst():
    results = Results((row("de", 0.6), row("en", 0.9), row("sw", 0.3), row("gsw", 0.5, "relative")), "en")
    assert results.languages() == ["en", "de", "sw", "gsw"]
    assert results.transfer() == pytest.approx(1.4 / 3)
    assert results.gap() == pytest.approx(0.9 - 1.4 / 3)
    assert results.mean("right") is None  # one language has no such value
    assert results.worst(2) == [("sw", 0.3), ("gsw", 0.5)]
    assert results.own("gsw").value == 0.5
    assert Results(results.rows).gap() is None


def test_more_is_worse_of_perplexities():
    results = Results((row("de", 20.0, metric="perplexity"), row("sw", 90.0, metric="perplexity")))
    assert results.worst(1) == [("sw", 90.0)]


def test_the_mean_of_perplexities_is_that_of_their_losses():
    rows = [row(code, value, metric="perplexity") for code, value in (("en", 5.0), ("de", 10.0), ("sw", 1000.0))]
    bits = [row(code, value, metric="bits per character") for code, value in (("en", 3.0), ("de", 2.0), ("sw", 4.0))]
    results = Results((*rows, *bits))
    assert results.mean() == pytest.approx((5 * 10 * 1000) ** (1 / 3))
    assert results.transfer("bits per character") == pytest.approx(3)
    assert "| geometric mean |  | 36.8 |" in results.markdown()
    assert "| mean |  | 3.000 |" in results.markdown()
    results = Results((*rows, *(replace(each, run="b", value=4 * each.value) for each in rows)), "en")
    assert results.transfer() == pytest.approx(100)
    assert results.gap() == pytest.approx(5 - 100)
    assert "| geometric mean, others |  | 100.0 | 400.0 |" in results.markdown()
    console = Console(width=200, record=True)
    console.print(results.table())
    assert "geometric mean, others: over 2 languages: de, sw" in console.export_text()
    seeds = Results(tuple(row("de", value, metric="perplexity", seed=seed) for seed, value in enumerate((4.0, 9.0))))
    assert seeds.value("de").value == pytest.approx(6)


def test_seeds():
    apart = Results(tuple(row("de", value, seed=seed) for seed, value in enumerate((0.5, 0.7))))
    assert apart.value("de").value == pytest.approx(0.6)
    assert apart.value("de").spread == pytest.approx(statistics.stdev((0.5, 0.7)))
    assert apart.value("de").low is None
    pooled = Results((*apart.rows, replace(row("de", 0.6), low=0.5, high=0.7)))
    assert (pooled.value("de").low, pooled.value("de").seeds) == (0.5, 2)


def test_out_and_back(tmp_path):
    results = made_up({"a": "en_XX", "b": "sw_KE"}, languages=("en_XX", "sw_KE"), seeds=(0, 1))
    results.to_json(tmp_path / "r.json")
    assert Results.from_json(tmp_path / "r.json") == results
    assert json.loads((tmp_path / "r.json").read_text())["format"] == 2


def test_the_first_format_is_read(tmp_path):
    old = {
        "run": "topic", "task": "classify", "language": "sw_KE", "metric": "accuracy", "adapter": "right",
        "value": 0.5, "low": 0.4, "high": 0.6, "rows": 40,
    }  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps({"format": 1, "source": "en_XX", "rows": [old]}))
    results = Results.from_json(tmp_path / "r.json")
    assert (results.source, results.source_of("topic")) == ("en_XX", "en_XX")
    assert results.value("sw_KE").high == 0.6


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 3, "rows": [], "source": null}', '{"rows": [{}]}'])
def test_what_is_none(text, tmp_path):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=r"r\.json does not contain results"):
        Results.from_json(tmp_path / "r.json")


def test_terminal_tables():
    def shown(table):
        console = Console(width=100)
        with console.capture() as capture:
            console.print(table)
        return capture.get()

    one = shown(made_up(languages=("en_XX", "sw_KE")).table())
    assert "source adapter" in one
    assert "half the 95 % interval" in one
    several = made_up({"a": "en_XX", "b": "sw_KE"}, languages=("en_XX", "sw_KE"), seeds=(0, 1))
    assert "standard deviation over seeds" in shown(several.table())
    assert "source adapter" in shown(several.table(run="b"))
    odd = made_up({"topic[v2]": "en_XX", "[/b]": "sw_KE"}, languages=("en_XX", "sw_KE"))
    assert all(f" {run} ┃" in shown(odd.table()) for run in odd.runs())
    assert "accuracy, [/b]" in shown(odd.table(run="[/b]"))


def test_markdown_says_what_differs():
    difference = Comparison(
        "b", "right", "a", "right", "classify", "accuracy", "de", -0.05, -0.1, 0.0, 0.0004, 0.0008, 9
    )
    text = Results((row("de", 0.6, run="a"), row("de", 0.55, run="b|c")), None, (difference,)).markdown()
    assert "### b against a, accuracy" in text
    assert "| de | 9 | −5.0 | [−10.0, 0.0] | < 0.001 | < 0.001 |" in text
    assert "b\\|c" in text


def test_a_mean_is_called_what_it_is():
    codes = ("en_XX", "de_DE", "sw_KE", "fr_XX")
    one, two = made_up(languages=codes), made_up({"a": "en_XX", "b": "sw_KE"}, languages=codes)
    assert "| mean, others (3 languages) |" in one.markdown()  # the source's adapter reads these alone
    assert "| mean, others (2 languages) |" in two.markdown()  # neither en_XX nor sw_KE
    unknown = Results(tuple(replace(row, source=None) for row in two.rows), None, two.comparisons)
    assert "others" not in unknown.markdown()
    assert "| mean (2 languages) |" in unknown.markdown()
    assert "mean, others" in list(map(str, two.table().columns[0]._cells))
    assert "mean" in list(map(str, unknown.table().columns[0]._cells))
    old = Results(one.rows, "en_XX", tuple(replace(each, languages=None) for each in one.comparisons))
    assert "| mean | 204 |" in old.markdown()  # which earlier versions took over the source language too


def test_means_of_several_runs_are_over_the_same_languages(tmp_path):
    values = {  # the easy language is the second run's own
        "a": {"en_XX": 0.9, "sw_KE": 0.8, "de_DE": 0.5, "fr_XX": 0.3},
        "b": {"en_XX": 0.9, "sw_KE": 0.8, "de_DE": 0.5, "fr_XX": 0.3},
        "c": {"en_XX": 0.9, "sw_KE": 0.8, "de_DE": 0.5},  # which has no French
    }
    sources = {"a": "en_XX", "b": "sw_KE", "c": "en_XX"}
    results = Results(
        tuple(row(code, v, run=run, source=sources[run]) for run, own in values.items() for code, v in own.items())
    )
    assert results.others() == ["de_DE"]
    assert results.others("a", "b") == ["de_DE", "fr_XX"]
    assert results.others("a") == ["sw_KE", "de_DE", "fr_XX"]
    assert results.transfer(run="a") == pytest.approx(1.6 / 3)
    assert results.transfer(run="a", languages=["de_DE"]) == 0.5
    text = results.markdown()
    head, *others = text.split("### ")[1:]
    assert head.startswith("classify: accuracy\n")
    assert "| mean, others |  | 50.0 | 50.0 | 50.0 |" in head
    assert "Mean over 1 language: de_DE." in head
    summary = next(part for part in others if part.startswith("Transfer"))
    for run, own in (("a", "en_XX 90.0"), ("b", "sw_KE 80.0"), ("c", "en_XX 90.0")):
        gap = "+40.0" if own.endswith("90.0") else "+30.0"
        assert f"| {run} | {own} | 50.0 | {gap} |" in summary
    assert "| mean, others |  | 53.3 |" in text  # of the first run alone
    assert "Mean over 3 languages: sw_KE, de_DE, fr_XX." in text
    assert "mean, others: over 1 language: de_DE" in str(results.table().caption)
    assert "over 3 languages: sw_KE, de_DE, fr_XX" in str(results.table(run="a").caption)
    results.report(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("accuracy, mean over 1 other language<") == 3  # a card for each run
    assert "over 1 language: de_DE" in page
    nothing = Results(tuple(each for each in results.rows if each.language in ("en_XX", "sw_KE")))
    assert "| mean, others |  |  |  |  |" in nothing.markdown()
    nothing.report(tmp_path / "n.html")


def test_a_mean_says_over_what_it_is_also_where_no_own_adapter_was_read(tmp_path):
    rows = [row(code, value, "source", source="en") for code, value in (("en", 0.9), ("de", 0.6), ("sw", 0.4))]
    results = Results(tuple(rows), "en")
    assert "| mean, others |  | 50.0 |" in results.markdown()
    assert "Mean over 2 languages: de, sw." in results.markdown()
    assert str(results.table().caption) == "mean, others: over 2 languages: de, sw"
    results.report(tmp_path / "r.html")
    assert "over 2 languages: de, sw" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_huge_perplexities_are_short(tmp_path):
    rows = [row(code, value, metric="perplexity") for code, value in (("en", 812.34), ("zh", 1.234e64))]
    results = Results(tuple(rows))
    assert "| zh | 10 | 1.23e+64 |" in results.markdown()
    assert "| en | 10 | 812.3 |" in results.markdown()
    results.report(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "0" * 20 not in page
    assert page.count('class="grid"') < 20  # marks of the axis, in each of two lines


@pytest.mark.parametrize("metric", ["perplexity", "RMSE", "accuracy"])
@pytest.mark.parametrize("values", [(math.nan, math.nan), (math.inf, 3.0), (0.5, math.nan)])
def test_values_that_are_no_numbers_are_shown_and_kept(tmp_path, metric, values):
    rows = [
        row(code, value, metric=metric, run=run, source=source, seed=seed)
        for run, source in (("a", "en_XX"), ("b", "de_DE"))
        for code, value in (("en_XX", values[0]), ("de_DE", values[1]), ("sw_KE", values[1]))
        for seed in (0, 1, None)
    ]
    pair = ("b", "right", "a", "right", "perplexity", metric)
    unknown = Comparison(*pair, "sw_KE", math.nan, None, None, 1.0, 1.0, 5)
    wide = Comparison(*pair, None, 2.0, None, 3.0, 0.5, None, 5, languages=1, over=("sw_KE",))
    results = Results(tuple(rows), None, (unknown, wide))
    results.save(tmp_path)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    written = [each["value"] for each in content["rows"]]
    assert written == [each.value if math.isfinite(each.value) else None for each in rows]
    back = Results.from_json(tmp_path / "results.json")
    assert back.comparisons[1] == wide
    assert math.isnan(back.comparisons[0].difference)
    for each in (results, back):
        text = each.markdown()
        assert "| sw_KE | 5 | nan | [\N{MINUS SIGN}inf, +inf] | 1.000 | 1.000 |" in text
        each.report(tmp_path / "again.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:x|x1|x2|cx|width|left|--v)[=:]"?(?:nan|inf)', page)


def test_pictures(tmp_path):
    results = made_up({"a": "en_XX", "b": "sw_KE"}, languages=("en_XX", "sw_KE"))
    names = results.save(tmp_path)
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())
    assert (tmp_path / "results.svg").read_text(encoding="utf-8").count("sw_KE") >= 1
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "shown"), [(0.123, "+12.3"), (-0.123, "\N{MINUS SIGN}12.3"), (-0.0001, "0.0"), (float("nan"), "nan")]
)
def test_differences_are_shown_with_their_sign(value, shown):
    assert signed(value, "accuracy") == shown


def test_pictures_show_what_tables_show(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(score_pictures, "bar_picture", lambda *given, **more: drawn.update(given=given, **more))
    results = made_up(languages=("en_XX", "sw_KE"))
    results.plot(tmp_path / "a.png")
    score = results.value("sw_KE")
    point = drawn["given"][3]["own adapter"][1][1]
    assert point == pytest.approx((100 * score.value, 100 * score.low, 100 * score.high))
    assert (drawn["axis"], drawn["limits"]) == ("accuracy, %", (0.0, 100.0))
