"""Question answering: rows, windows, places of answers, scores."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from tests.conftest import DEVELOPMENT_DATA
from tests.support import example_of
from tests.tasks.conftest import SCRIPTS, written
from xmodular.tasks import TASKS, Room
from xmodular.tasks.places import Places
from xmodular.tasks.qa import squad_statistics

QA = TASKS["qa"]


def read_perfectly(example, encodings):
    """The prediction of a model that is sure of each window's target."""
    readings = []
    for encoding in encodings:
        logits = np.zeros((len(encoding.sequences[0]), 2), dtype=np.float32)
        start, end = encoding.target
        logits[start, 0] = logits[end, 1] = 10
        readings.append((encoding, logits))
    return QA.decode(example, readings, [])


def predictions(tokenizer, examples, room):
    encodings = QA.encode(tokenizer, examples, [], room)
    assert all(len(encoding.sequences[0]) <= room.max_length for encoding in encodings)
    own = [[] for _ in examples]
    for encoding in encodings:
        own[encoding.example].append(encoding)
    return [read_perfectly(example, mine) for example, mine in zip(examples, own, strict=True)]


def token_places(tokenizer, text):
    """The characters of each token by the tokenizer itself, without white space; those that have any."""
    places = []
    for piece, (start, end) in zip(*_pieces(tokenizer, text), strict=True):
        while start < end and text[start].isspace():
            start += 1
        if piece != "▁" and start < end:
            places.append((start, end))
    return places


def _pieces(tokenizer, text):
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return tokenizer.convert_ids_to_tokens(found["input_ids"]), found["offset_mapping"]


def cut(tokenizer, contexts, count, draw, most, inside=0.0):
    """Questions about random spans of random contexts; a share of them begins and ends inside tokens."""
    examples, expected = [], []
    places = [token_places(tokenizer, context) for context in contexts]
    while len(examples) < count:
        number = draw.randrange(len(contexts))
        context, own = contexts[number], places[number]
        first = draw.randrange(len(own))
        last = min(first + draw.randrange(most), len(own) - 1)
        whole = start, end = own[first][0], own[last][1]
        if draw.random() < inside:
            start = draw.randrange(start, own[first][1])
            end = draw.randrange(max(start, own[last][0]), end) + 1
        if not context[start].isspace() and not context[end - 1].isspace():
            question = " ".join(draw.choices(context.split(), k=draw.choice([1, 5, 40])))
            answers = [{"text": context[start:end], "answer_start": start}]
            examples.append(example_of(QA, question=question, context=context, answers=answers))
            expected.append(whole)
    return examples, expected


def assert_answers_come_back(tokenizer, contexts, count, draw, room, most):
    examples, _ = cut(tokenizer, contexts, count, draw, most)
    for example, found in zip(examples, predictions(tokenizer, examples, room), strict=True):
        text, start = example.gold[0]
        assert (found["start"], found["end"], found["answer"]) == (start, start + len(text), text)


@pytest.fixture(scope="module")
def contexts():
    """Texts of 10 to 250 words in each of ten scripts, and in all of them together."""
    draw = random.Random(1)
    texts = [written(script, draw.randint(10, 250), draw) for script in SCRIPTS for _ in range(12)]
    return texts + [" ".join(written(script, 9, draw) for script in SCRIPTS) for _ in range(10)]


@pytest.mark.parametrize("count", [400, pytest.param(5000, marks=pytest.mark.slow)])
def test_answers_in_ten_scripts_come_back_exactly(scripts_tokenizer, contexts, count):
    draw = random.Random(count)
    assert len(SCRIPTS) == 10
    assert_answers_come_back(scripts_tokenizer, contexts, count // 2, draw, Room(96, 40), most=20)
    assert_answers_come_back(scripts_tokenizer, contexts, count // 2, draw, Room(384, 128), most=30)


def test_answers_that_begin_inside_a_token_get_the_smallest_span(scripts_tokenizer, contexts):
    examples, expected = cut(scripts_tokenizer, contexts, 300, random.Random(3), most=15, inside=1.0)
    inside = 0
    for example, span, found in zip(
        examples, expected, predictions(scripts_tokenizer, examples, Room(128, 48)), strict=True
    ):
        text, start = example.gold[0]
        assert (found["start"], found["end"]) == span
        inside += span != (start, start + len(text))
    assert inside > 50


@pytest.mark.skipif(not DEVELOPMENT_DATA.is_dir(), reason="development data (../shared/data) is not there")
def test_real_answers_in_twelve_languages_come_back(xlmr):
    draw = random.Random(4)
    for path in sorted((DEVELOPMENT_DATA / "xquad").glob("*.json")):
        paragraphs = [p for article in json.loads(path.read_text())["data"] for p in article["paragraphs"]]
        some = [p["context"] for p in draw.sample(paragraphs, 8)]
        assert_answers_come_back(xlmr, some, 60, draw, Room(128, 48), most=20)


def test_characters_that_the_tokenizer_changes(scripts_tokenizer):
    """Every cut between what stands for something comes back, whatever the normaliser drops, joins or spells out."""
    draw = random.Random(5)
    odd = ["\x01", "\x02", "½", "e", "e\u0301", "ﬁ", " ", "\u200b", "\ufeff", "\u00a0", "กำ", "ก", "的", "Ａ", "river"]
    for _ in range(300):
        units = draw.choices(odd, k=draw.randint(3, 25))
        context = "".join(units)
        places = Places(scripts_tokenizer)
        (placed,) = places([context])
        spans = [span for span in placed.spans if span[0] < span[1]]
        if not spans:
            continue
        start, end = draw.choice(spans)[0], draw.choice(spans)[1]
        if start >= end:
            continue
        answers = [{"text": context[start:end], "answer_start": start}]
        example = example_of(QA, question="?", context=context, answers=answers)
        (found,) = predictions(scripts_tokenizer, [example], Room(64, 16))
        assert found["answer"] == context[found["start"] : found["end"]]
        assert found["start"] <= start
        assert found["end"] >= end
        covered = {place for a, b in spans for place in range(a, b)}
        for place, character in enumerate(context):
            # Nothing that is seen is lost, but for accents with nothing to stand on.
            if character in "½eﬁกำ的Ａriv":
                assert place in covered, (context, place)


@pytest.mark.parametrize("text", ["", "\x01\x01", "½\x01", "e\u0301", "\u200b"])
def test_what_is_dropped_shifts_nothing(scripts_tokenizer, text):
    context = f"{text} the house {text}river"
    (placed,) = Places(scripts_tokenizer)([context])
    starts, ends = zip(*(span for span in placed.spans if span[0] < span[1]), strict=True)
    start = context.index("the house")
    assert start in starts
    assert start + 3 in ends
    assert start + 4 in starts
    assert start + 9 in ends
    assert max(ends) == len(context)


def test_rows():
    question, context = "Who?", "Ada Lovelace and Ada"
    placed = (("Ada", 17),)
    base = {"question": question, "context": context}
    assert QA.parse({**base, "answers": [{"text": "Ada", "answer_start": 17}]}) == ((question, context), placed)
    assert QA.parse({**base, "answers": {"text": ["Ada"], "answer_start": [17]}})[1] == placed
    assert QA.parse({**base, "answers": "Lovelace"})[1] == (("Lovelace", 4),)
    assert QA.parse({**base, "answers": ["and", "Ada"]})[1] == (("and", 13), ("Ada", 0))
    assert QA.parse(base)[1] is None
    for nothing in ([], {"text": [], "answer_start": []}):
        with pytest.raises(ValueError, match="'answers' is empty, as in SQuAD 2; here every question needs"):
            QA.parse({**base, "answers": nothing})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "", "context": "b"}, "'question' must be a non-empty text"),
        ({"question": "a", "context": 3}, "'context' must be a non-empty text; it is 3"),
        (
            {"answers": [{"text": "x", "answer_start": 1}]},
            "the answer 'x' is not at character 1 of the context, but 'o'",
        ),
        (
            {"answers": [{"text": "house", "answer_start": -5}]},
            "'answer_start' must be a whole number, 0 or more; it is -5",
        ),
        (
            {"answers": [{"text": "house", "answer_start": "0"}]},
            "'answer_start' must be a whole number, 0 or more; it is '0'",
        ),
        ({"answers": [{"text": " ", "answer_start": 0}]}, "an answer must be a non-empty text"),
        ({"answers": [{"answer_start": 0}]}, "an answer needs a 'text'"),
        ({"answers": {"text": ["house"], "answer_start": []}}, r"1 answers, but another number of positions: \[\]"),
        ({"answers": "boat"}, r"the answer 'boat' is not in the context\."),
        ({"answers": "{'text': ['house']}"}, r"is not in the context \(in tables, lists are JSON: "),
        ({"answers": 3}, "'answers' must be a list or a text; it is 3"),
    ],
)
def test_a_wrong_row_says_why(row, reason):
    with pytest.raises(ValueError, match=reason):
        QA.parse({"question": "what", "context": "house"} | row)


def test_windows_hold_the_question_and_share_tokens(scripts_tokenizer):
    context = " ".join(["the", "house", "stands", "river"] * 20)
    example = example_of(QA, question="the market", context=context, answers="river")
    encodings = QA.encode(scripts_tokenizer, [example], [], Room(40, 10))
    question, inside = (
        scripts_tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("the market", context)
    )
    start = (0, *question, 2, 2)
    free = 40 - len(start) - 1
    seen = []
    for number, encoding in enumerate(encodings):
        (sequence,) = encoding.sequences
        assert sequence[: len(start)] == start
        assert sequence[-1] == 2
        part = list(sequence[len(start) : -1])
        assert part == inside[number * (free - 10) :][:free]
        seen += part if not number else part[10:]
    assert seen == inside
    long = example_of(QA, question="the house " * 40, context=context)
    (sequence,) = QA.encode(scripts_tokenizer, [long], [], Room(40, 10))[0].sequences
    assert sequence[:21] == (
        0,
        *(scripts_tokenizer("the house " * 40, add_special_tokens=False)["input_ids"][:18]),
        2,
        2,
    )


def test_targets_are_the_first_token_of_all_where_the_answer_is_not(scripts_tokenizer):
    context = " ".join(["the"] * 30 + ["river", "market"] + ["the"] * 30)
    example = example_of(QA, question="a", context=context, answers="river market")
    encodings = QA.encode(scripts_tokenizer, [example], [], Room(30, 8))
    targets = QA.targets(encodings, 30)
    holding = 0
    for encoding, start, end in zip(encodings, targets["start_positions"], targets["end_positions"], strict=True):
        sequence = encoding.sequences[0]
        if (int(start), int(end)) == (0, 0):
            assert "river market" not in scripts_tokenizer.decode(sequence)
        else:
            assert scripts_tokenizer.decode(sequence[start : end + 1]).strip() == "river market"
            holding += 1
    assert 1 <= holding < len(encodings)


def test_the_best_span_ends_behind_its_start_and_is_short(scripts_tokenizer):
    words = ["house", "river", "market", "the"] * 30
    example = example_of(QA, question="a", context=" ".join(words))
    (encoding,) = QA.encode(scripts_tokenizer, [example], [], Room(400))
    before, spans = encoding.places

    def found(starts, ends):
        logits = np.full((len(encoding.sequences[0]), 2), -20, dtype=np.float32)
        logits[0] = 100  # what is not the context does not count
        for column, edges in enumerate((starts, ends)):
            for token, value in edges.items():
                logits[before + token, column] = value
        return QA.decode(example, [(encoding, logits)], [])

    def span(first, last):
        return spans[first][0], spans[last][1]

    answer = found({2: 5, 10: 3}, {1: 9, 4: 4, 110: 8})
    assert (answer["start"], answer["end"]) == span(2, 4)  # not 2..1, nor 2..110
    assert found({40: 5}, {103: 5})["end"] == span(40, 103)[1]
    assert found({40: 5}, {104: 5})["end"] != span(40, 104)[1]
    answer = found({2: 5, 7: 5}, {3: 5, 8: 5})
    assert answer["score"] == pytest.approx(1 / 2 / (1 + 0), abs=0.26)
    # Two windows: the better one decides.
    parts = QA.encode(scripts_tokenizer, [example], [], Room(60, 20))
    readings = []
    for number, part in enumerate(parts):
        logits = np.zeros((len(part.sequences[0]), 2), dtype=np.float32)
        logits[part.places[0] + 3] = 9 if number == 1 else 5
        readings.append((part, logits))
    best = QA.decode(example, readings, [])
    assert (best["start"], best["end"]) == parts[1].places[1][3]


@pytest.mark.parametrize("room", [Room(24, 8), Room(60, 20), Room(400)])
def test_every_span_of_every_window_is_weighed(scripts_tokenizer, room):
    draw = np.random.default_rng(0)
    context = " ".join(draw.choice(["house", "river", "market", "the", "\u0001", "東京の家"], 150))
    example = example_of(QA, question="a", context=context)
    encodings = QA.encode(scripts_tokenizer, [example], [], room)
    readings = [(each, draw.normal(size=(len(each.sequences[0]), 2)).astype(np.float32)) for each in encodings]
    best = {}
    for encoding, logits in readings:
        before, spans = encoding.places
        edges = logits[before:].astype(np.float64)
        for first, (start, more) in enumerate(spans):
            for last in range(first, min(first + 64, len(spans))):
                end = spans[last][1]
                if start < more and spans[last][0] < end and start < end:
                    score = edges[first, 0] + edges[last, 1]
                    best[start, end] = max(score, best.get((start, end), score))
    (span, top), *others = sorted(best.items(), key=lambda item: -item[1])[:20]
    found = QA.decode(example, readings, [])
    assert (found["start"], found["end"]) == span
    assert found["score"] == pytest.approx(1 / (1 + sum(np.exp(score - top) for _, score in others)))


def test_a_context_without_tokens_gives_an_empty_answer(scripts_tokenizer):
    example = example_of(QA, question="a", context="\x01")
    encodings = QA.encode(scripts_tokenizer, [example], [], Room(20))
    readings = [(each, np.zeros((len(each.sequences[0]), 2), dtype=np.float32)) for each in encodings]
    assert QA.decode(example, readings, []) == {"answer": "", "start": 0, "end": 0, "score": 0.0}


def test_the_best_gold_answer_counts_by_language():
    examples = [
        example_of(QA, "en_XX", question="a", context="the big house", answers=["house", "the big house"]),
        example_of(QA, "zh_CN", question="a", context="北京上海", answers="北京"),
        example_of(QA, "sw_KE", question="a", context="the big house", answers=["the", "house"]),
    ]
    predicted = [{"answer": "a big house!"}, {"answer": "北"}, {"answer": "the"}]
    sums = QA.statistics(examples, predicted, [])
    np.testing.assert_allclose(sums, [[1, 1, 1], [1, 2 / 3, 0], [1, 1, 1]])
    english = squad_statistics(examples, predicted, [])
    np.testing.assert_allclose(english, [[1, 1, 1], [1, 0, 0], [1, 1, 1]])
    values = QA.metrics(sums.sum(0), [])
    assert list(values) == ["F1", "EM"]
    assert values["EM"] == pytest.approx(2 / 3)


def test_a_blind_draw_is_in_the_context():
    examples = [example_of(QA, question="a", context=" one two three four ") for _ in range(50)]
    drawn = QA.guesses(examples, [])["uniform"]
    assert drawn == QA.guesses(examples, [])["uniform"]
    assert len({guess["answer"] for guess in drawn}) > 5
    for example, guess in zip(examples, drawn, strict=True):
        assert guess["answer"] == example.texts[1][guess["start"] : guess["end"]] != ""
