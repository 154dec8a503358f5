"""The page: complete, closed in itself, harmless."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.results.samples import LANGUAGES, made_up
from xmodular.errors import ConfigurationError
from xmodular.results import Detail, Results

_VOID = {"meta", "line", "rect", "circle", "path"}


class Reader(HTMLParser):
    """Collects tags, attributes and text; fails where tags do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.attributes, self.text = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page_of(results: Results, tmp_path) -> tuple[str, Reader]:
    results.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    return page, Reader(page)


def test_everything_is_on_it(tmp_path):
    results = made_up({"base": "en_XX", "grown": "de_DE"}, seeds=(0, 1))
    page, reader = page_of(results, tmp_path)
    text = " ".join(reader.text)
    for code in LANGUAGES:
        assert page.count(f">{code}<") >= 6  # charts and tables of both runs and metrics
    for said in ("Training language by test language", "Differences", "How to read it", "What was run", "Swahili"):
        assert said in text
    for run in results.runs():
        assert f"{100 * results.transfer(run=run):.1f}" in text
        assert f"{100 * results.value('sw_KE', run=run).value:.1f} ±" in text


@pytest.mark.parametrize("metric", ["perplexity", "RMSE", "Pearson"])
def test_metrics_that_are_no_shares(metric, tmp_path):
    results = made_up(languages=("en_XX", "sw_KE"), metrics=(metric,))
    factor = {"perplexity": 100.0, "RMSE": 1.0, "Pearson": -0.5}[metric]
    rows = tuple(replace(r, value=r.value * factor, low=None, high=None) for r in results.rows)
    _, reader = page_of(Results(rows, "en_XX"), tmp_path)
    places = [float(value[:-1]) for name, value in reader.attributes if name in ("cx", "width") and value.endswith("%")]
    assert places
    assert all(0 <= place <= 100 for place in places)


def test_means_say_over_what_they_are(tmp_path):
    results = made_up({"a": "en_XX", "b": "sw_KE"}, languages=("en_XX", "de_DE", "sw_KE", "fr_XX"))
    text = "|".join(page_of(results, tmp_path)[1].text)
    assert "mean, others|2 languages" in text  # b against a
    assert "mean, others|3 languages" in text  # own against the source's adapter
    assert "of all languages" not in text


def test_it_fetches_nothing(tmp_path):
    page, reader = page_of(made_up(), tmp_path)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page)
    assert not {"src", "href", "srcset"} & {name for name, _ in reader.attributes}


def test_names_are_text_and_no_tags(tmp_path):
    nasty = '<script>alert("x")</script>&'
    rows = tuple(replace(row, run=nasty, reader=nasty) for row in made_up(languages=("en_XX", "de_DE")).rows)
    page, reader = page_of(Results(rows, "en_XX", (), {"command": nasty}), tmp_path)
    assert page.count("<script>") == 1
    assert nasty in "".join(reader.text)


def test_a_title(tmp_path):
    made_up(languages=("en_XX",)).report(tmp_path / "r.html", title="Topics & more")
    assert "<title>Topics &amp; more</title>" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_nothing_to_show(tmp_path):
    with pytest.raises(ConfigurationError, match="no rows"):
        Results(()).report(tmp_path / "r.html")
    with pytest.raises(ConfigurationError, match=r"must end in .png, .svg, .pdf; got 'r.gif'"):
        made_up(languages=("en_XX",)).plot(tmp_path / "r.gif")


def detailed(results: Results, labels=("calm", "glad"), unit="rows") -> Results:
    """Results with counts by label in two languages: of the first label 30 of 40 right, 4 of the second of 10."""
    count = len(labels)
    details = tuple(
        Detail(
            *(run, code, unit, labels),
            gold=(40, 10, *[0] * (count - 2)),
            predicted=(36, 14, *[0] * (count - 2)),
            right=(30, 4, *[0] * (count - 2)),
            confused=((0, 1, 10), (1, 0, 6)),
        )
        for run in results.runs()
        for code in results.languages()[:2]
    )
    return replace(results, details=details)


def test_labels_have_scores_and_confusions(tmp_path):
    results = detailed(made_up({"a": "en_XX", "b": "en_XX"}))
    _, reader = page_of(results, tmp_path)
    text = "|".join(part for part in reader.text if part.strip())
    assert "By label" in text
    assert text.count("en_XX English|label|rows|predicted|right|precision, %|recall, %|F1, %") == 2  # a run each
    assert "calm|40|36|30|83.3|75.0|78.9|glad|10|14|4|28.6|40.0|33.3" in text  # by hand
    assert "is ↓  predicted →|calm|glad|calm|30|10|glad|6|4" in text
    results.to_json(tmp_path / "results.json")
    assert Results.from_json(tmp_path / "results.json") == results
    assert "### By label, b: F1, %\n\n| label | en_XX | ar_AR |" in results.markdown()
    assert "| glad | 33.3 | 33.3 |" in results.markdown()


def test_of_many_labels_the_commonest_confusions_are_shown(tmp_path):
    labels = tuple(f"intent {number}" for number in range(60))
    page, reader = page_of(detailed(made_up(), labels), tmp_path)
    text = "|".join(part for part in reader.text if part.strip())
    assert "is|predicted|rows|intent 0|intent 1|10|intent 1|intent 0|6" in text
    assert "is ↓  predicted →" not in text
    assert len(page) < 600_000


@pytest.mark.parametrize(
    ("value", "half", "said"),
    [
        (0.26, 0.05, "No better than guessing: always the most frequent answer reaches 25.0 %."),
        (0.20, 0.01, "No better than guessing"),
        (0.30, 0.02, "Hardly better than guessing: always"),
        (0.60, 0.05, ""),
    ],
)
def test_a_value_near_chance_is_called_so(value, half, said, tmp_path):
    results = made_up(languages=("en_XX", "sw_KE", "mt"))
    rows = tuple(
        replace(row, value=value, low=value - half, high=value + half) if row.adapter == "right" else row
        for row in results.rows
    )
    page, reader = page_of(replace(results, rows=rows), tmp_path)
    assert ('class="warning"' in page) == bool(said)
    assert said in " ".join(reader.text)


def test_single_languages_near_chance_are_counted(tmp_path):
    results = made_up(languages=("en_XX", "sw_KE", "mt"))
    rows = tuple(replace(r, value=0.2, low=0.1, high=0.26) if r.language == "mt" else r for r in results.rows)
    text = " ".join(page_of(replace(results, rows=rows), tmp_path)[1].text)
    assert "No better than guessing in 1 of 2 languages" in text


def test_numbers_have_units(tmp_path):
    text = "|".join(page_of(made_up(languages=("en_XX", "sw_KE")), tmp_path)[1].text)
    assert " %|accuracy, mean over 1 other language" in text
    for said in ("|accuracy, %|", "|macro-F1, %|", " points|"):
        assert said in text
    for metric, unit in (("perplexity", "perplexity"), ("Pearson", "Pearson, × 100"), ("RMSE", "RMSE")):
        results = made_up(languages=("en_XX", "sw_KE"), metrics=(metric,))
        text = "|".join(page_of(results, tmp_path)[1].text)
        assert f"|{unit}|" in text
        assert "%|" not in text


def test_there_is_one_order(tmp_path):
    results = made_up({"a": "en_XX", "b": "en_XX"}, languages=LANGUAGES[:6])
    page, _ = page_of(detailed(results), tmp_path)
    charts = re.findall(r'<span class="label"><b>(\w+)</b>', page)
    rows = re.findall(r'<th scope="row" data-key="(\w+)"><span>(?:\1)</span>', page)
    for found in (charts, rows):
        codes = [code for code in found if code in LANGUAGES]
        assert len(codes) > 12
        assert codes == list(LANGUAGES[:6]) * (len(codes) // 6)


def test_colours_are_explained(tmp_path):
    page, reader = page_of(detailed(made_up({"a": "en_XX", "b": "de_DE"})), tmp_path)
    assert page.count('class="heat"') == page.count('class="ramp"')
    text = " ".join(reader.text)
    assert "better" in text
    assert "worse" in text
    assert "not significant" in text


def test_differences_fill_their_axis(tmp_path):
    results = made_up(languages=("en_XX", "sw_KE"))
    small = tuple(replace(each, difference=0.002, low=0.001, high=0.004) for each in results.comparisons)
    page, _ = page_of(replace(results, comparisons=small), tmp_path)
    part = page[page.index("<h2>Differences") :]
    assert max(float(place) for place in re.findall(r'class="whisker" x1="[\d.]+%" x2="([\d.]+)%"', part)) > 80


def test_on_paper_every_tab_is_there_under_its_title(tmp_path):
    page, _ = page_of(made_up(), tmp_path)
    print_style = page[page.index("@media print") : page.index("</style>")]
    assert ".panel { display: block !important; }" in print_style
    assert ".js .panel > h3:first-child { display: block; }" in print_style
    assert "@media (prefers-color-scheme: dark)" not in page  # on paper it is light
    for part in re.findall(r'<div class="panel" data-name="([^"]*)">', page):
        assert f"<h3>{part}</h3>" in page
