"""Axes, charts and tables."""

import pytest

from xmodular.charts import Bar, Cell, Heat, Line, Mark, Scale, chart, facts, heat, table


@pytest.mark.parametrize(
    ("values", "ends", "ticks"),
    [
        ([0.2, 0.9], {"low": 0.0, "high": 1.0}, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([-0.03, 0.11], {}, [-0.05, 0, 0.05, 0.1, 0.15]),
        ([3.0], {}, [3.0, 3.2, 3.4, 3.6, 3.8, 4.0]),
        ([float("nan"), float("inf")], {}, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_linear_axes_have_round_ends(values, ends, ticks):
    scale = Scale.of(values, **ends)
    assert scale.ticks == pytest.approx(ticks)
    assert (scale.low, scale.high) == (scale.ticks[0], scale.ticks[-1])


def test_places():
    scale = Scale.of([], low=0.0, high=1.0)
    assert [scale.at(value) for value in (-1, 0.25, 2, float("nan"))] == [0, 25, 100, 0]
    log = Scale.log([3, 250])
    assert log.ticks == (1, 10, 100, 1000)
    assert log.at(10) == pytest.approx(33.33)
    assert log.at(0) == 0


def test_a_chart_has_what_it_is_given():
    lines = [
        Line("de", "German", (Bar("c1", 0.5, 0.4, 0.6, "own: 50"),), (Mark("c2", 0.25, "source: 25"),), "50.0"),
        Line("sw", "", (), (Mark("c4", -0.5, "less", "diamond", -1.0, 0.0),), ""),
    ]
    drawn = chart(lines, Scale.of([], low=-1.0, high=1.0), lambda value: f"{value:g}", origin=0.0)
    assert '<rect class="bar c1" x="50%"' in drawn
    assert 'width="25%"' in drawn
    assert 'cx="62.5%"' in drawn
    assert 'aria-label="own: 50; source: 25"' in drawn
    assert '<svg x="25.0%"' in drawn


def test_a_table_sorts_by_keys():
    made = table(["language", "value"], [[Cell("de"), Cell("50.0 ±1", "40 – 60", 0.5, True)]], [Cell("mean")])
    assert 'data-key="0.5"' in made
    assert 'data-key="de"' in made
    assert "<tfoot>" in made


def test_heat():
    made = heat(
        Heat(
            "",
            [("de", "German")],
            [("en", "English"), ("sw", "")],
            [[0.9], [None]],
            [["81"], [""]],
            frozenset({(0, 0)}),
        )
    )
    assert '<td class="strong framed" style="--v:90%">81</td>' in made
    assert "<td></td>" in made


def test_facts_nest():
    made = facts({"models": [{"run": "<a>", "seed": None}], "list": [1, 2], "none": []})
    assert "&lt;a&gt;" in made
    assert "<table>" in made
    assert "1, 2" in made
    assert made.count("–") == 2
