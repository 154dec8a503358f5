"""Tagging: rows, first sub-tokens, windows, spans and their F1."""

import random

import numpy as np
import pytest
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

from tests.conftest import DEVELOPMENT_DATA
from tests.support import example_of
from xmodular.tasks import TASKS, Encoding, Example, Room
from xmodular.tasks.examples import load
from xmodular.tasks.tag import UPOS, spans

TAG = TASKS["tag"]
IOB = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


def logits_for(encodings, tags, labels):
    """Logits that say each word's tag wherever a window answers for it, and another tag at all other tokens."""
    answer = []
    for encoding in encodings:
        values = np.zeros((len(encoding.sequences[0]), len(labels)), dtype=np.float32)
        values[:, -1] = 5
        for word, position in encoding.places:
            values[position] = 0
            values[position, labels.index(tags[word])] = 5
        answer.append(values)
    return answer


def test_rows():
    assert TAG.parse({"words": ["Ada", "Lovelace"], "tags": ["B-PER", "I-PER"]}) == (
        ("Ada Lovelace", "Ada", "Lovelace"),
        ("B-PER", "I-PER"),
    )
    assert TAG.parse({"words": ["a", "b"], "tags": [3, 0]})[1] == ("3", "0")
    assert TAG.parse({"text": " Ada  Lovelace\tsleeps "}) == (
        (" Ada  Lovelace\tsleeps ", "Ada", "Lovelace", "sleeps"),
        None,
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"tags": ["O"]}, "there are no 'words', and no 'text' to split"),
        ({"words": ["a", "b"], "tags": [3, -100]}, "'tags' contains -100, which means no tag"),
        ({"words": []}, "'words' is empty"),
        ({"words": "Ada"}, "'words' must be a list; it is 'Ada'"),
        ({"words": ["Ada", ""]}, "'words' contains an empty one"),
        ({"words": ["Ada", None]}, "'words' contains None"),
        ({"words": ["Ada"], "tags": ["O", "O"]}, "1 words but 2 tags"),
        ({"words": ["Ada"], "tags": [" "]}, "'tags' contains an empty one"),
        ({"words": ["Ada"], "tags": [0.5]}, "'tags' contains 0.5"),
        ({"text": "\n"}, "'text' must be a non-empty text"),
    ],
)
def test_a_wrong_row_says_why(row, reason):
    with pytest.raises(ValueError, match=reason):
        TAG.parse(row)


def test_white_space_around_a_tag_makes_no_other_tag():
    assert TAG.parse({"words": ["a", " b"], "tags": ["O ", "B-PER"]}) == (("a  b", "a", " b"), ("O", "B-PER"))


def test_tags_of_a_text_that_is_not_split():
    with pytest.raises(ValueError, match="tags need 'words', a list"):
        TAG.parse({"text": "a b", "tags": ["O", "O"]})


def test_label_inventories_are_complete():
    def names(*tags):
        return TAG.label_names([example_of(TAG, words=["a"] * len(tags), tags=list(tags))])

    assert names("B-PER", "O", "I-LOC") == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert names("PROPN") == list(UPOS)
    assert names("NE", "OTHER") == ["NE", "OTHER"]


def test_labels_stand_at_first_tokens(scripts_tokenizer):
    words = ["the", "zyxwvuts", "house"]
    row = example_of(TAG, words=words, tags=["T0", "T1", "T2"])
    (encoding,) = TAG.encode(scripts_tokenizer, [row], ["T0", "T1", "T2"], Room(60))
    pieces = [scripts_tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    assert encoding.sequences == ((0, *pieces[0], *pieces[1], *pieces[2], 2),)
    assert len(pieces[1]) > 2
    expected = [-100]
    for number, own in enumerate(pieces):
        expected += [number] + [-100] * (len(own) - 1)
    expected += [-100] * 3  # one for </s>, two of padding
    assert TAG.targets([encoding], len(expected))["labels"].tolist() == [expected]
    logits = logits_for([encoding], ["T2", "T0", "T1"], ["T0", "T1", "T2"])
    assert TAG.decode(row, [(encoding, logits[0])], ["T0", "T1", "T2"])["tags"] == ["T2", "T0", "T1"]


@pytest.mark.parametrize(("length", "stride"), [(60, 16), (12, 128), (12, 4), (9, 0), (6, 1)])
def test_every_word_of_a_long_sentence_is_tagged_once(scripts_tokenizer, length, stride):
    draw = random.Random(length)
    words = [draw.choice(["house", "the", "zyxwvuts", "r"]) for _ in range(50)]
    tags = draw.choices(IOB, k=50)
    row = example_of(TAG, words=words, tags=tags)
    encodings = TAG.encode(scripts_tokenizer, [row], IOB, Room(length, stride))
    assert len(encodings) > 1
    assert all(len(encoding.sequences[0]) <= length for encoding in encodings)
    assert sorted(word for encoding in encodings for word, _ in encoding.places) == list(range(50))
    firsts = [scripts_tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words]
    for encoding in encodings:
        for word, position in encoding.places:
            assert encoding.sequences[0][position] == firsts[word]
    counted = TAG.targets(encodings, length)["labels"]
    assert int((counted != -100).sum()) == 50
    readings = list(zip(encodings, logits_for(encodings, tags, IOB), strict=True))
    assert TAG.decode(row, readings, IOB)["tags"] == tags


def test_a_word_has_context_on_both_sides(scripts_tokenizer):
    """Where windows share tokens, a word is read in the one whose edge is further away."""
    row = example_of(TAG, words=["r"] * 200)
    encodings = TAG.encode(scripts_tokenizer, [row], IOB, Room(34, 16))
    for number, encoding in enumerate(encodings):
        positions = [position for _, position in encoding.places]
        last = len(encoding.sequences[0]) - 1
        assert number == 0 or min(positions) > 8
        assert number == len(encodings) - 1 or max(positions) <= last - 8


def test_a_word_without_tokens_is_not_lost(scripts_tokenizer):
    row = example_of(TAG, words=["\x01", "house", "\x02"], tags=["B-PER", "B-LOC", "O"])
    (encoding,) = TAG.encode(scripts_tokenizer, [row], IOB, Room(20))
    found = TAG.decode(row, [(encoding, *logits_for([encoding], row.gold, IOB))], IOB)
    assert found["tags"] == ["O", "B-LOC", "O"]
    assert found["scores"][0] == 0 < found["scores"][1]
    nothing = example_of(TAG, words=["\x01"], tags=["B-PER"])
    (encoding,) = TAG.encode(scripts_tokenizer, [nothing], IOB, Room(20))
    assert (TAG.targets([encoding], 4)["labels"] == -100).all()
    assert TAG.decode(nothing, [(encoding, *logits_for([encoding], [], IOB))], IOB)["tags"] == ["O"]


@pytest.mark.parametrize("given", ["words", "text"])
def test_spans_say_where_they_are(scripts_tokenizer, given):
    text = "  the house \t the  the river the "
    row = example_of(TAG, **({"text": text} if given == "text" else {"words": text.split()}))
    tags = ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "I-PER"]
    (encoding,) = TAG.encode(scripts_tokenizer, [row], IOB, Room(40))
    found = TAG.decode(row, [(encoding, *logits_for([encoding], tags, IOB))], IOB)
    sentence = text if given == "text" else "the house the the river the"
    assert [(span["type"], span["text"]) for span in found["spans"]] == [
        ("PER", "the house"),
        ("LOC", "the river"),
        ("PER", "the"),
    ]
    assert [span["start"] for span in found["spans"]] == [
        sentence.index("the"),
        sentence.index("the river"),
        sentence.rindex("the"),
    ]
    for span in found["spans"]:
        assert sentence[span["start"] : span["end"]] == span["text"]
        assert span["score"] == pytest.approx(np.exp(5) / (np.exp(5) + 4))
    assert "spans" not in TAG.decode(row, [(encoding, *logits_for([encoding], ["X"] * 6, ["X", "Y"]))], ["X", "Y"])


def test_spans_and_scores_are_seqevals():
    draw = random.Random(3)
    for _ in range(20):
        gold = [draw.choices(IOB, weights=[5, 1, 1, 1, 1], k=draw.randint(1, 12)) for _ in range(30)]
        predicted = [[g if draw.random() < 0.7 else draw.choice(IOB) for g in row] for row in gold]
        for row in gold + predicted:  # among them many I- without a B-
            assert spans(row) == get_entities(row)
        examples = [example_of(TAG, words=["a"] * len(row), tags=row) for row in gold]
        values = TAG.metrics(TAG.statistics(examples, [{"tags": row} for row in predicted], IOB).sum(0), IOB)
        assert list(values) == ["F1", "precision", "recall", "accuracy"]
        assert values["F1"] == pytest.approx(f1_score(gold, predicted))
        assert values["precision"] == pytest.approx(precision_score(gold, predicted))
        assert values["recall"] == pytest.approx(recall_score(gold, predicted))
        assert values["accuracy"] == pytest.approx(accuracy_score(gold, predicted))


@pytest.mark.filterwarnings("ignore:.*seems not to be NE tag")
def test_scores_are_seqevals_where_gold_has_tags_that_the_model_lacks():
    draw = random.Random(4)
    lacking = ["B-MISC", "I-MISC", "I-ORG", "NAME"]
    for _ in range(20):
        gold = [draw.choices([*IOB, *lacking], k=draw.randint(1, 12)) for _ in range(30)]
        predicted = [[g if g in IOB and draw.random() < 0.7 else draw.choice(IOB) for g in row] for row in gold]
        examples = [example_of(TAG, words=["a"] * len(row), tags=row) for row in gold]
        values = TAG.metrics(TAG.statistics(examples, [{"tags": row} for row in predicted], IOB).sum(0), IOB)
        assert values["F1"] == pytest.approx(f1_score(gold, predicted))
        assert values["precision"] == pytest.approx(precision_score(gold, predicted))
        assert values["recall"] == pytest.approx(recall_score(gold, predicted))
        assert values["accuracy"] == pytest.approx(accuracy_score(gold, predicted))


def test_a_tag_of_another_form_is_never_found():
    """PER is no B-PER, although both name the type PER."""
    row = example_of(TAG, words=["a", "b", "c"], tags=["PER", "PER", "B-LOC"])
    found = [{"tags": ["B-PER", "I-PER", "B-LOC"]}]
    assert TAG.statistics([row], found, IOB).tolist() == [[3, 1, 2, 2, 1]]
    assert TAG.guesses([row], IOB)["uniform"] == {"accuracy": pytest.approx(1 / 3 / 5)}


def test_parts_of_speech_have_accuracy_only():
    row = example_of(TAG, words=["a", "b", "c"], tags=["NOUN", "VERB", "NOUN"])
    sums = TAG.statistics([row], [{"tags": ["NOUN", "NOUN", "NOUN"]}], UPOS)
    assert TAG.metrics(sums.sum(0), UPOS) == {"accuracy": pytest.approx(2 / 3)}
    guesses = TAG.guesses([row], UPOS)
    assert guesses == {"majority": [{"tags": ["NOUN"] * 3}], "uniform": {"accuracy": 1 / 17}}


@pytest.mark.skipif(not DEVELOPMENT_DATA.is_dir(), reason="development data (../shared/data) is not there")
def test_real_files():
    entities = load(TAG, DEVELOPMENT_DATA / "ner" / "ru_RU.test.conll")
    assert len(entities) == 500
    assert set(TAG.label_names(entities)) == {"O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"}
    parts = load(TAG, DEVELOPMENT_DATA / "pos" / "ar_AR.test.conllu")
    assert len(parts) == 250
    assert TAG.label_names(parts) == list(UPOS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The  house,\u00a0red.\n", ["The", "house,", "red."]),
        ("我愛 Berlin。", ["我", "愛", "Berlin", "。"]),
        ("Python3很好（真的）", ["Python3", "很", "好", "（", "真", "的", "）"]),
        ("東京タワーに行った", list("東京タワーに行った")),
        ("か\u3099 葛\U000e0100城 𠮷", ["か\u3099", "葛\U000e0100", "城", "𠮷"]),
        ("나는 학교에 간다", ["나는", "학교에", "간다"]),
        ("฿ 5", ["฿", "5"]),
    ],
)
def test_a_text_is_split_by_script(text, words):
    texts, gold = TAG.parse({"text": text})
    assert (texts, gold) == ((text, *words), None)
    tags = ["B-X" if place % 2 else "O" for place in range(len(words))]
    logits = np.eye(2)[[int(tag == "B-X") for tag in tags]] * 9
    places = tuple((place, place) for place in range(len(words)))
    example = Example(texts, None, "")
    found = TAG.decode(example, [(Encoding(0, ((0,) * len(words),), None, places), logits)], ["O", "B-X"])
    assert [(text[span["start"] : span["end"]], span["text"]) for span in found["spans"]] == [
        (word, word) for word in words[1::2]
    ]


@pytest.mark.parametrize(
    ("text", "script"), [("ผมรักประเทศไทย", "Thai"), ("a ဘာသာ", "Burmese"), ("ភាសាខ្មែរ", "Khmer"), ("ພາສາລາວ", "Lao")]
)
def test_a_text_that_cannot_be_split_is_refused(text, script):
    with pytest.raises(ValueError, match=f"'text' has {script} letters .* give 'words', a list"):
        TAG.parse({"text": text})
    assert TAG.parse({"words": [text]}) == ((text, text), None)


@pytest.mark.skipif(not DEVELOPMENT_DATA.is_dir(), reason="development data (../shared/data) is not there")
@pytest.mark.parametrize("code", ["zh_CN", "zh_TW", "th_TH", "ko_KR", "de_DE"])
def test_no_real_sentence_is_one_word(code):
    folder = DEVELOPMENT_DATA / ("text_dev" if code != "ko_KR" else "nli_free")
    path = next(folder.glob(f"{code}*"))
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if len(line) > 30][:100]
    assert len(lines) > 20
    for line in lines:
        if code == "th_TH":
            with pytest.raises(ValueError, match="Thai"):
                TAG.parse({"text": line})
        else:
            words = TAG.parse({"text": line})[0][1:]
            assert max(map(len, words)) < 30
            assert "".join(words) == "".join(line.split())
