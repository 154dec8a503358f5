"""Normalisation and scores of answers, against the published rules written down once more, letter by letter."""

from __future__ import annotations

import random
import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmodular.tasks.answer_match import exact_match, f1, normalise

ARTICLES = {
    "en": {"a", "an", "the"},
    "es": {"un", "una", "unos", "unas", "el", "la", "los", "las"},
    "vi": {"của", "là", "cái", "chiếc", "những"},
    "de": {"ein", "eine", "einen", "einem", "eines", "einer", "der", "die", "das", "den", "dem", "des"},
}
WORDS = {
    "en": "the The a an AN Theatre anthem cat cat. “cat” can't U.S. (the) 12,5 –",
    "es": "el La los Unas Elena año «año» ¿qué? l.a unos,",
    "hi": "का में भारत भारत। १२ (भारत)",
    "vi": "của là cái chiếc những Hà Nội, hà",
    "de": "der Die das Derby ein Einer EINE groß „groß“ Straße: des",
    "ar": "ال الكتاب كتاب، والكتاب مصر؟ قال",
    "zh": "北京 上海，第2 次ABC 的 「的」 a the 㐀",
    "ru": "Москва москва, a the «и» в",
    "th": "กรุงเทพ ไทย the",
}
CODES = {"zh": "zh_CN", "en": "en_XX", "hi": "hi_IN", "th": "th_TH", "ar": "ar", "de": "German"}


def reference(text: str, language: str) -> list[str]:
    """The tokens: SQuAD's rules for English, MLQA's for the others, their articles as sets of words."""
    kept = ""
    for letter in text.lower():
        unicode_sign = unicodedata.category(letter)[0] == "P" and language != "en"
        if letter not in string.punctuation and not unicode_sign:
            kept += letter
    if language in ARTICLES:
        # What \b sees as a word: letters, digits and the like together.
        words, word = [], ""
        for letter in kept + " ":
            if letter.isalnum() or letter == "_":
                word += letter
            else:
                words += [" " if word in ARTICLES[language] else word, letter]
                word = ""
        kept = "".join(words)
    if language == "ar":
        kept = kept.replace("ال", " ")
    if language == "zh":
        tokens, run = [], ""
        for letter in kept:
            if "\u4e00" <= letter <= "\u9fa5":
                tokens += [*run.split(), letter]
                run = ""
            else:
                run += letter
        return tokens + run.split()
    return kept.split()


def reference_f1(predicted: list[str], gold: list[str]) -> float:
    left = list(gold)
    common = 0
    for token in predicted:
        if token in left:
            left.remove(token)
            common += 1
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("language", sorted(WORDS))
def test_as_published(language):
    draw = random.Random(language)
    spelled = CODES.get(language, language)
    words = WORDS[language].split()
    kinds = set()
    for _ in range(400):
        one, other = (
            "".join(
                word + draw.choice([" ", " ", "", "  ", "-", "\u00a0"])
                for word in draw.choices(words, k=draw.randint(0, 6))
            )
            for _ in range(2)
        )
        if draw.random() < 0.3:
            other = draw.choice(["", "the ", ". "]) + one.upper() + draw.choice(["", "!", " "])
        tokens = reference(one, language), reference(other, language)
        assert normalise(one, spelled) == " ".join(tokens[0])
        if not tokens[1]:  # nothing to compare with is left
            tokens = one.lower().split(), other.lower().split()
        assert exact_match(one, other, spelled) == float(tokens[0] == tokens[1])
        assert f1(one, other, spelled) == pytest.approx(reference_f1(*tokens))
        kinds.add((tokens[0] == tokens[1], 0 < reference_f1(*tokens) < 1))
    assert {(True, False), (False, True), (False, False)} <= kinds


@pytest.mark.parametrize("language", [None, *sorted(WORDS)])
@given(gold=st.text(string.punctuation + " \u00a0AaneldthoisTHE५।%“ال的", min_size=1).filter(str.strip))
def test_every_answer_is_like_itself(language, gold):
    assert exact_match(gold, gold, language) == f1(gold, gold, language) == 1
    assert exact_match(f" {gold.upper().lower()}\n", gold, language) == 1


def test_answers_that_normalise_to_nothing_differ():
    for gold, wrong in (("A", "%"), ("%", "the"), ("The", "an"), ("–", ""), ("A", "Paris")):
        assert exact_match(wrong, gold, "en") == f1(wrong, gold, "en") == 0
    assert f1("the", "the Paris", "en") == 0  # what is predicted is nothing, what is right is not
    assert f1("grade A", "A", "en") == pytest.approx(2 / 3)


def test_unknown_languages_are_read_as_squad():
    assert normalise("The “Cat's”") == normalise("The “Cat's”", "en") == normalise("The “Cat's”", "xx") == "“cats”"
    assert normalise("The “Cat's”", "sw_KE") == "the cats"


def test_english_is_as_torchmetrics_has_it():
    squad = pytest.importorskip("torchmetrics.functional.text").squad
    draw = random.Random(5)
    words = ["the", "The", "a", "an", "cat", "cat.", "Anthem", "can't", "U.S.", "(the)", "“x”", "12,5", "–"]
    for _ in range(100):
        gold = [" ".join(draw.choices(words, k=draw.randint(1, 5))) for _ in range(draw.randint(1, 3))]
        predicted = draw.choice([*gold, " ".join(draw.choices(words, k=draw.randint(1, 5)))])
        theirs = squad(
            [{"prediction_text": predicted, "id": "1"}],
            [{"answers": {"answer_start": [0] * len(gold), "text": gold}, "id": "1"}],
        )
        if not all(normalise(text, "en") for text in gold):  # to which the published rules give no F1
            continue
        ours = [max(score(predicted, text, "en") for text in gold) for score in (exact_match, f1)]
        assert 100 * ours[0] == pytest.approx(theirs["exact_match"].item())
        if normalise(predicted, "en"):
            assert 100 * ours[1] == pytest.approx(theirs["f1"].item(), abs=1e-3)
