"""Languages of words by an identifier of texts that is asked about every word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xmodular.errors import ConfigurationError, InputError
from xmodular.identification import OwnIdentifier, Span, chosen_identifier
from xmodular.identification.asked_words import AskedWords
from xmodular.identification.words import words_in

CODES = ["en_XX", "de_DE", "sw_KE"]
HERE = "tests.identification.test_asked_words"
ENGLISH, GERMAN, DUTCH = {"eng_Latn": 0.9, "deu_Latn": 0.1}, {"deu_Latn": 0.9, "nld_Latn": 0.1}, {"nld_Latn": 1.0}
WORDS = {
    **dict.fromkeys(("the", "old", "house"), ENGLISH),
    **dict.fromkeys(("das", "alte", "haus"), GERMAN),
    **dict.fromkeys(("het", "oude", "huis"), DUTCH),
}


def by_list(texts: list[str]) -> list[Any]:
    """Of a text the answer for its first word that is in the list."""
    known = [[WORDS[word] for each in text.split() if (word := each.strip(".,").lower()) in WORDS] for text in texts]
    return [answers[0] if answers else None for answers in known]


def wrong(texts: list[str]) -> list[Any]:
    return [("de", 7.0)] * len(texts)


class Parts:
    def spans(self, texts: list[str]) -> list[list[Any]]:
        return [[(0, len(text), "sw", 0.75)] for text in texts]


def read(text: str, identify: str = f"spans:{HERE}:by_list", among: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    found: Any = chosen_identifier(identify, CODES, among)
    return [(text[part.start : part.end], part.language) for part in found.spans([text])[0]]


def test_each_word_has_its_language_and_the_unknown_ones_that_of_their_neighbours() -> None:
    text = "The old old house, das alte 17 xyzzy alte Haus."
    assert read(text) == [("The old old house,", "en_XX"), ("das alte 17 xyzzy alte Haus.", "de_DE")]


def test_words_of_a_language_that_the_model_lacks_are_in_none() -> None:
    assert read("The old house the old house. Het oude huis het oude huis het oude huis")[-1][1] is None


def test_only_some_languages_can_occur() -> None:
    assert read("The old house, das alte Haus", among=("de",)) == [("The old house, das alte Haus", "de_DE")]


def test_probabilities_of_one_language_under_two_names_are_added() -> None:
    own = OwnIdentifier(lambda texts: [{"de": 0.25, "deu_Latn": 0.5, "nl": 0.125, "pl": 0.125}, None], CODES)
    assert own.probabilities(["a", "b"]) == pytest.approx(np.array([[0, 0.75, 0, 0.25], [0, 0, 0, 0]]))


def test_scores_are_zero_at_best_and_of_words_without_letters() -> None:
    text = "Haus 17 old."
    scores = AskedWords(OwnIdentifier(by_list, CODES))(text, words_in(text))
    assert scores.shape == (3, 4)
    assert scores[1].tolist() == [0, 0, 0, 0]
    assert scores.max(1).tolist() == [0, 0, 0]
    assert scores.argmax(1)[[0, 2]].tolist() == [1, 0]


def test_an_identifier_with_parts_of_its_own_is_not_asked_about_words() -> None:
    found: Any = chosen_identifier(f"spans:{HERE}:Parts", CODES)
    assert found.spans(["the house"]) == [[Span(0, 9, "sw_KE", 0.75)]]


@pytest.mark.parametrize("text", ["", "17 ...", "\n"])
def test_text_without_letters_has_no_parts(text: str) -> None:
    assert read(text) == []


def test_answers_and_names_are_checked() -> None:
    with pytest.raises(InputError, match=r"wrong answered \('de', 7.0\) for text 0: it must be a confidence"):
        read("Haus", f"spans:{HERE}:wrong")
    for given in ("spans:nothing", "spans:py3langid", "spans:"):
        with pytest.raises(ConfigurationError, match=rf"identify is '{given}'.*spans:glotlid:<file>"):
            chosen_identifier(given, CODES)
