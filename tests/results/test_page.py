"""The page: complete, closed in itself, harmless."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.results.samples import LANGUAGES, made_up
from xmodular.errors import ConfigurationError
from xmodular.results import Results

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
    with pytest.raises(ConfigurationError, match=r"ends in .png, .svg, .pdf; not 'r.gif'"):
        made_up(languages=("en_XX",)).plot(tmp_path / "r.gif")
