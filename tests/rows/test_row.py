"""Bad rows, the language in a file's name, texts that no encoding can hold."""

import pytest

from xmodular.errors import DataError, LanguageError
from xmodular.languages import resolve
from xmodular.rows import BadRows, half_surrogate, language_of


def knows(name: str) -> bool:
    """As a model of four languages."""
    try:
        return bool(resolve(name, ["de_DE", "en_XX", "hi_IN", "sw_KE"]))
    except LanguageError:
        return False


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
        # the model's, by any usual code
        ("de_DE.test.jsonl", "de_DE"),
        ("folder/en_XX.train.conll.gz", "en_XX"),
        ("sw.test.conllu", "sw"),
        ("SWH.csv", "SWH"),
        ("de_de.dev.jsonl", "de_de"),
        ("hi_IN_rom.test.jsonl", "hi_IN_rom"),
        ("deu_Latn.tsv", "deu_Latn"),
        # not the model's, and certainly meant as a language
        ("de_CH.jsonl", "de_CH"),
        ("zh-Hant.tsv", "zh-Hant"),
        ("eo_EO.jsonl", "eo_EO"),
        ("gsw-BE.csv", "gsw-BE"),
        ("sr_Latn.test.jsonl", "sr_Latn"),
        ("mt_MT_rom.jsonl", "mt_MT_rom"),
        # words that some language's code is spelled like, or the code of a language that the model lacks
        *((f"{word}.jsonl", None) for word in ("qa", "app", "mix", "med", "qqp", "log", "com", "api", "law", "bio")),
        *((f"{word}.jsonl", None) for word in ("dev", "ner", "all", "to_do", "cd_rom", "mix_val", "mt", "gsw", "qu")),
        ("mt.test.jsonl", None),
        ("train.jsonl", None),
        ("test.de.jsonl", None),
        ("data.csv", None),
        ("med_Data.csv", None),
        ("xx_YY.jsonl", None),
        ("German.jsonl", None),
        (".jsonl", None),
        ("ünïcode.jsonl", None),
    ],
)
def test_the_language_in_a_files_name(name: str, language: str | None):
    assert language_of(name, knows) == language


def test_without_a_model_a_region_or_a_script_makes_a_language():
    names = ("de_DE.jsonl", "zh-Hant.csv", "de.jsonl", "qa.jsonl")
    assert [language_of(name) for name in names] == ["de_DE", "zh-Hant", None, None]


def test_half_surrogates_are_found_at_any_depth():
    deep: object = "\udfff"
    for _ in range(100_000):
        deep = [deep]
    assert half_surrogate({"a": "fine 😀", "b": [{"c": "\ud800"}]}) == "b"
    assert half_surrogate({"a": 1, "b": {"\ud83d": 2}}) == "b"
    assert half_surrogate({"deep": deep}) == "deep"
    assert half_surrogate({"a": "\u200f\x00😀", "b": None, "c": [1.5, True]}) is None
