"""Bad rows, the language in a file's name, texts that no encoding can hold."""

import pytest

from xmodular.errors import DataError
from xmodular.rows import BadRows, half_surrogate, language_of


def test_the_first_bad_row_is_an_error_unless_they_are_skipped():
    with pytest.raises(DataError, match=r"^a.jsonl:3: no text\.$"):
        BadRows().report("a.jsonl:3", "no text.")
    told: list[tuple[str, str]] = []
    bad = BadRows(skip=True, told=lambda *noted: told.append(noted))
    assert bad.summary() == ""
    for number in range(1, 1008):
        bad.report(f"a.jsonl:{number}", "no text")
    assert bad.count == len(told) == 1007
    assert told[1006] == ("a.jsonl:1007", "no text")
    assert bad.summary().startswith("1,007 bad rows were skipped: a.jsonl:1: no text; a.jsonl:2: no text; ")
    assert bad.summary().endswith("; and 1,002 more.")


def test_a_summary_is_one_short_printable_line_whatever_the_rows_held():
    bad = BadRows(skip=True)
    bad.report("a:1", "bell \a, \x1b[2J, line\nend, right-to-left \u202e, half \ud800" + "x" * 10**6)
    assert bad.summary().isprintable()
    assert bad.summary().startswith(
        r"1 bad row was skipped: a:1: bell \x07, \x1b[2J, line\nend, right-to-left \u202e, "
    )
    assert len(bad.summary()) < 1000


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("de_DE.test.jsonl", "de_DE"),
        ("folder/en_XX.train.conll.gz", "en_XX"),
        ("ar_AR.jsonl", "ar_AR"),
        ("gsw.test.conllu", "gsw"),
        ("gsw-BE.csv", "gsw-BE"),
        ("qu.dev.jsonl", "qu"),
        ("zh-Hant.tsv", "zh-Hant"),
        ("eo_EO.jsonl", "eo_EO"),
        ("hi_IN_rom.test.jsonl", "hi_IN_rom"),
        ("train.jsonl", None),
        ("test.de.jsonl", None),
        ("dev.jsonl", None),
        ("val.jsonl", None),
        ("ner.conll", None),
        ("de_dev.jsonl", None),
        ("data.csv", None),
        ("xx_YY.jsonl", None),
        ("German.jsonl", None),
        (".jsonl", None),
        ("ünïcode.jsonl", None),
    ],
)
def test_the_language_in_a_files_name(name: str, language: str | None):
    assert language_of(name) == language


def test_half_surrogates_are_found_at_any_depth():
    deep: object = "\udfff"
    for _ in range(100_000):
        deep = [deep]
    assert half_surrogate({"a": "fine 😀", "b": [{"c": "\ud800"}]}) == "b"
    assert half_surrogate({"a": 1, "b": {"\ud83d": 2}}) == "b"
    assert half_surrogate({"deep": deep}) == "deep"
    assert half_surrogate({"a": "\u200f\x00😀", "b": None, "c": [1.5, True]}) is None
