"""The languages of words: decided as brute force decides, at exact places of the given text."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.prediction.conftest import SENTENCES
from xmodular import SpanIdentifier
from xmodular.errors import InputError, LanguageError
from xmodular.identification.decision import best_paths, sentence_priors, word_probabilities
from xmodular.identification.words import words_in

CODES = ["en_XX", "de_DE", "sw_KE", "ru_RU", "el_GR", "ar_AR", "zh_CN", "zh_TW", "th_TH", "ja_XX", "hi_IN", "gsw"]


@pytest.fixture(scope="module")
def identify() -> SpanIdentifier:
    return SpanIdentifier(CODES)


def joint(scores: np.ndarray, prior: np.ndarray, switch: float, path: tuple[int, ...]) -> float:
    """The probability of words and languages, after the definition of the model."""
    answer = prior[path[0]] * np.exp(scores[0, path[0]])
    for place in range(1, len(path)):
        one, other = path[place - 1 : place + 1]
        answer *= ((1 - switch) * (one == other) + switch * prior[other]) * np.exp(scores[place, other])
    return float(answer)


@pytest.mark.parametrize("switch", [0.05, 0.6])
def test_paths_and_probabilities_are_those_of_all_sequences(switch: float) -> None:
    draw = np.random.default_rng(0)
    lengths = np.array([1, 5, 3, 4])
    scores = draw.normal(scale=2, size=(4, 5, 3))
    prior = draw.dirichlet(np.ones(3), size=4)
    paths, sure = best_paths(scores, lengths, prior, switch), word_probabilities(scores, lengths, prior, switch)
    for row, length in enumerate(lengths):
        every = list(itertools.product(range(3), repeat=int(length)))
        values = np.array([joint(scores[row], prior[row], switch, path) for path in every])
        assert tuple(paths[row, :length]) == every[values.argmax()]
        values /= values.sum()
        for place in range(length):
            right = [sum(v for v, path in zip(values, every, strict=True) if path[place] == k) for k in range(3)]
            assert sure[row, place] == pytest.approx(right, abs=1e-12)
        assert not sure[row, length:].any()


def test_priors_are_the_shares_of_the_languages() -> None:
    scores = np.full((1, 8, 3), -9.0)
    scores[0, :6, 1] = scores[0, 6:, 2] = 0.0
    assert sentence_priors(scores, np.array([8]), 0.1, 0, 0.1) == pytest.approx(np.full((1, 3), 1 / 3))
    learned = sentence_priors(scores, np.array([8]), 0.1, 3, 0.1)
    assert learned[0] == pytest.approx([0.1 / 8.3, 6.1 / 8.3, 2.1 / 8.3], abs=0.01)


def test_a_sentence_that_changes_its_language(identify: SpanIdentifier) -> None:
    german, russian = SENTENCES["de_DE"][0], SENTENCES["ru_RU"][0]
    text = f"{german} {russian}"
    first, second = identify.spans([text])[0]
    assert (first.language, text[first.start : first.end]) == ("de_DE", german)
    assert (second.language, text[second.start : second.end]) == ("ru_RU", russian)
    assert min(first.confidence, second.confidence) > 0.9
    (main,) = identify([text])
    assert main.language == "de_DE"
    mixed = "I told her that we are late, aber sie wollte trotzdem noch schnell frühstücken gehen."
    assert [span.language for span in identify.spans([mixed])[0]] == ["en_XX", "de_DE"]


@pytest.mark.parametrize("code", SENTENCES)
def test_a_sentence_in_one_language_is_one_part(identify: SpanIdentifier, code: str) -> None:
    for text, spans in zip(SENTENCES[code], identify.spans(SENTENCES[code]), strict=True):
        assert [(span.start, span.end, span.language) for span in spans] == [(0, len(text), code)]


def test_batches_change_nothing(identify: SpanIdentifier) -> None:
    texts = [" ".join(SENTENCES[code][:n]) for code in SENTENCES for n in (1, 2)] + ["", "7 + 5", "Haus"]
    assert identify.spans(texts) == [spans for text in texts for spans in identify.spans([text])]


RUSSIAN, ENGLISH = "старый дом у реки", "and she likes the market"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("first", "between", "second"),
    [
        ("🙂 Das alte Haus 🙂", " ", f"{RUSSIAN} {FAMILY}"),
        ("Die A\u0308rztin öffnet die Tu\u0308r,", "\n", RUSSIAN),
        ("Ｄａｓ ａｌｔｅ Ｈａｕｓ ａｍ Ｆｌｕｓｓ", "\u3000", RUSSIAN),
        ("the ﬁrst ofﬁce ㎏ of the house", " ", RUSSIAN),
        ("หมอเปิดบ้านเก่าริมแม่น้ำ", "", ENGLISH),
        ("医生打开河边的旧房子", "", ENGLISH),
        ("\u200f\u200eالطبيب يفتح البيت القديم", " <b>", ENGLISH),
    ],
)
def test_places_are_those_of_the_given_text(identify: SpanIdentifier, first: str, between: str, second: str) -> None:
    text = f"  {first}{between}{second}</b> "
    spans = identify.spans([text])[0]
    assert [text[span.start : span.end] for span in spans] == [first, second]
    assert all(span.language is not None for span in spans)


def test_words() -> None:
    def shown(text: str) -> list[tuple[str, str]]:
        words = words_in(text)
        assert all(text[a.end : b.start].strip() == "" for a, b in itertools.pairwise(words))
        return [(text[word.start : word.end], word.script) for word in words]

    assert shown("The house, 12!") == [("The", "LATIN"), ("house,", "LATIN"), ("12!", "")]
    assert shown("домhouse") == [("дом", "CYRILLIC"), ("house", "LATIN")]
    assert shown("e\u0301te\u0301") == [("e\u0301te\u0301", "LATIN")]
    assert shown("旧房子。") == [("旧", "CJK"), ("房", "CJK"), ("子。", "CJK")]
    assert shown("บ้านเก่า") == [("บ้านเก่า", "THAI")]
    assert shown("🙂🙂 ١٢") == [("🙂🙂", ""), ("١٢", "")]
    assert shown("\u3000 \n") == []


def test_only_some_languages(identify: SpanIdentifier) -> None:
    two = SpanIdentifier(CODES, among=["German", "sw"])
    assert {span.language for span in two.spans(["The doctor opens the old house by the river."])[0]} <= {
        "de_DE",
        "sw_KE",
    }
    with pytest.raises(LanguageError, match="gsw cannot be identified: choose among en_XX"):
        SpanIdentifier(CODES, among=["de", "gsw"])
    with pytest.raises(LanguageError, match="'fr'"):
        SpanIdentifier(CODES, among=["fr"])
    with pytest.raises(InputError, match="give a list of texts"):
        identify.spans("ein Text")
    with pytest.raises(InputError, match="Text 1 is 7"):
        identify.spans(["ein Text", 7])  # type: ignore[list-item]


def test_a_language_that_is_lacking_is_not_forced_on_a_word() -> None:
    few = SpanIdentifier(["en_XX", "sw_KE"])
    spans = few.spans(["Врач открывает старый дом у реки. The doctor opens the old house by the river."])[0]
    assert [span.language for span in spans] == [None, "en_XX"]


def test_long_and_strange_texts(identify: SpanIdentifier) -> None:
    long = f"{SENTENCES['de_DE'][0]} " * 2000
    assert [span.language for span in identify.spans([long])[0]] == ["de_DE"]
    for text in ("\ud800", "a\ud800b", "\0" * 50, "𝕳𝖊𝖑𝖑𝖔 𝖜𝖔𝖗𝖑𝖉", "ß" * 3000, "<" * 500, "[MASK] <mask>", "ﷺ" * 30):
        for span in identify.spans([text])[0]:
            assert 0 <= span.start < span.end <= len(text)
            assert 0 <= span.confidence <= 1


def test_threads(identify: SpanIdentifier) -> None:
    texts = [" ".join([SENTENCES[a][0], SENTENCES[b][1]]) for a in SENTENCES for b in SENTENCES]
    alone = identify.spans(texts)
    with ThreadPoolExecutor(4) as pool:
        assert all(found == alone for found in pool.map(identify.spans, [texts] * 8))
