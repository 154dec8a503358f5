"""Counts by label against sklearn's and seqeval's."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from tests.support import example_of
from xmodular.results import Detail
from xmodular.tasks import TASKS, added
from xmodular.tasks.breakdown import breakdown

LABELS = ["a", "b", "c"]
PAIRS = st.lists(st.tuples(st.sampled_from("abcx"), st.sampled_from(LABELS)), min_size=1, max_size=40)


def matrix_of(found):
    counts = np.diag(found.right)
    for gold, predicted, count in found.confused:
        counts[gold, predicted] += count
    return counts


@given(PAIRS)
def test_counts_are_sklearns(pairs):
    found = breakdown("rows", pairs, LABELS)
    gold, predicted = zip(*pairs, strict=True)
    assert found.labels == (*LABELS, *(["x"] if "x" in gold else []))
    assert np.array_equal(matrix_of(found), confusion_matrix(gold, predicted, labels=list(found.labels)))
    expected = precision_recall_fscore_support(gold, predicted, labels=list(found.labels), zero_division=np.nan)
    detail = Detail("run", "en_XX", **vars(found))
    for method, values in zip((detail.precision, detail.recall, detail.f1), expected, strict=False):
        for place, value in enumerate(values):
            assert method(place) is None if np.isnan(value) else np.isclose(method(place), value)


@given(PAIRS, PAIRS)
def test_parts_add_up(one, two):
    whole = breakdown("rows", [*one, *two], LABELS)
    assert added([breakdown("rows", one, LABELS), breakdown("rows", two, LABELS)]) == whole


TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]


@given(st.lists(st.lists(st.tuples(*[st.sampled_from(TAGS)] * 2), min_size=1, max_size=12), min_size=1, max_size=8))
def test_spans_are_seqevals(sentences):
    gold = [[pair[0] for pair in sentence] for sentence in sentences]
    said = [[pair[1] for pair in sentence] for sentence in sentences]
    examples = [example_of(TASKS["tag"], words=["w"] * len(tags), tags=tags) for tags in gold]
    found = TASKS["tag"].breakdown(examples, [{"tags": tags} for tags in said], TAGS)
    assert (found.unit, found.labels) == ("spans", ("LOC", "PER"))
    detail = Detail("run", "en_XX", **vars(found))
    if any(tag != "O" for tags in gold + said for tag in tags):
        report = classification_report(gold, said, output_dict=True, zero_division=0)
        for place, kind in enumerate(found.labels):
            expected = report.get(kind, {"f1-score": 0, "support": 0})
            assert np.isclose(detail.f1(place) or 0, expected["f1-score"])
            assert found.gold[place] == expected["support"]
    # Every span that is not right is taken for another type, for nothing, or comes from nothing.
    for side, total in ((0, found.gold), (1, found.predicted)):
        wrong = Counter()
        for entry in found.confused:
            wrong[entry[side]] += entry[2]
        assert [wrong[place] + found.right[place] for place in (0, 1)] == list(total)


def test_words_without_spans_are_counted_as_they_are():
    example = example_of(TASKS["tag"], words=["a", "b", "c"], tags=["NOUN", "VERB", "ADV"])
    found = TASKS["tag"].breakdown([example], [{"tags": ["NOUN", "NOUN", "NOUN"]}], ["NOUN", "VERB"])
    assert found.unit == "words"
    assert found.labels == ("NOUN", "VERB", "ADV")
    assert found.confused == ((1, 0, 1), (2, 0, 1))
