"""Perplexity and bits per character: what vocabularies do not know, masks in short rows, against exhaustive figures."""

import math
import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xmodular.perplexity import block_statistics, loss_a_token, perplexity_metrics, text_statistics, to_predict
from xmodular.text import MaskedLMCollator, TextFiles, measured_text
from xmodular.vocabulary import train_tokenizer

GREEK = ["σπίτι", "ποτάμι", "ψωμί", "βουνό", "γιατρός", "αγορά", "βλέπει", "βρίσκει", "ανοίγει", "πλένει", "μικρό"]
LATIN = ["house", "river", "bread", "mountain", "doctor", "market", "sees", "finds", "opens", "washes", "small"]


def sentences(words, count, seed, shortest=2, longest=9):
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=draw.randint(shortest, longest))) + "." for _ in range(count)]


class Scorer(torch.nn.Module):
    """A model that needs no training: logits of the vocabulary for each predicted token, by a function of the rows."""

    def __init__(self, logits):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.logits = logits

    def forward(self, input_ids, attention_mask, lang_ids, labels, sparse_prediction):
        rows, _ = torch.nonzero(labels != -100, as_tuple=True)
        return SimpleNamespace(logits=self.logits(labels, rows))


def collator_of(tokenizer, seed=0, **more):
    ids = {"mask_id": tokenizer.mask_token_id, "pad_id": tokenizer.pad_token_id}
    return MaskedLMCollator(special_ids=tokenizer.all_special_ids, vocab_size=len(tokenizer), seed=seed, **ids, **more)


def sums_of(model, text, tokenizer, seed=0, **more):
    collator = collator_of(tokenizer, seed, **more)
    blocks, chosen = to_predict(text, collator)
    predicted = block_statistics(
        model,
        [text.blocks[number] for number in blocks],
        [0] * len(blocks),
        blocks.tolist(),
        collator,
        chosen=chosen,
        unk_id=tokenizer.unk_token_id,
    )
    return text_statistics(text, blocks, predicted, causal=False)


def frequencies(tokenizer, lines):
    """A scorer by the frequency of pieces in a text, one added to each: it learns as much as a vocabulary tells."""
    counts = Counter(index for line in lines for index in tokenizer(line, add_special_tokens=False)["input_ids"])
    logs = torch.tensor([float(1 + counts[index]) for index in range(len(tokenizer))]).log()
    return Scorer(lambda labels, rows: logs.expand(len(rows), -1))


@pytest.fixture(scope="module")
def vocabularies():
    greek, latin = sentences(GREEK, 300, 1), sentences(LATIN, 300, 2)
    return {
        "own": train_tokenizer({"el": greek}, 120),
        "own, bytes": train_tokenizer({"el": greek}, 120 + 256, byte_fallback=True),
        "foreign": train_tokenizer({"en": latin}, 120),
        "foreign, bytes": train_tokenizer({"en": latin}, 120 + 256, byte_fallback=True),
    }


@pytest.mark.parametrize("packing", ["fill", "lines"])
def test_a_vocabulary_does_not_gain_by_what_it_does_not_know(vocabularies, tmp_path, packing):
    path = tmp_path / "el.txt"
    path.write_text("\n".join(sentences(GREEK, 80, 3)), encoding="utf-8")
    found = {}
    for name, tokenizer in vocabularies.items():
        text = measured_text(TextFiles("el", (path,)), tokenizer, 64, packing)
        model = frequencies(tokenizer, sentences(GREEK, 300, 4))
        found[name] = perplexity_metrics(sums_of(model, text, tokenizer).sum(0))
    bits = {name: float(values["bits per character"]) for name, values in found.items()}
    assert bits["own"] < bits["foreign"]
    assert bits["own"] == pytest.approx(bits["own, bytes"], rel=0.1)
    assert bits["own, bytes"] < bits["foreign, bytes"] < bits["foreign"]
    assert bits["foreign"] < 8 * len("σπίτι".encode()) / len("σπίτι")
    # ... and for itself, where it is at home
    path.write_text("\n".join(sentences(LATIN, 80, 5)), encoding="utf-8")
    home = {}
    for name, tokenizer in vocabularies.items():
        text = measured_text(TextFiles("en", (path,)), tokenizer, 64, packing)
        sums = sums_of(frequencies(tokenizer, sentences(LATIN, 300, 6)), text, tokenizer).sum(0)
        home[name] = float(perplexity_metrics(sums)["bits per character"])
    assert home["foreign"] < home["own"]
    assert home["foreign, bytes"] < home["own, bytes"]


def test_the_figures_by_hand(vocabularies, tmp_path):
    tokenizer = vocabularies["foreign"]
    path = tmp_path / "el.txt"
    path.write_text("the house σπίτι finds ψωμί\nbread", encoding="utf-8")
    text = measured_text(TextFiles("el", (path,)), tokenizer, 32)
    pieces = [tokenizer.tokenize(line) for line in path.read_text(encoding="utf-8").splitlines()]
    unknown = sum(piece == "<unk>" or tokenizer.convert_tokens_to_ids(piece) == 3 for line in pieces for piece in line)
    known = sum(map(len, pieces)) - unknown
    sums = sums_of(Scorer(lambda labels, rows: torch.zeros(len(rows), len(tokenizer))), text, tokenizer).sum(0)
    spelled = "σπίτιψωμί"
    nats = known * math.log(len(tokenizer)) + len(spelled.encode()) * math.log(256)
    metrics = perplexity_metrics(sums)
    assert unknown == 2
    assert metrics["perplexity"] == pytest.approx(math.exp(nats / (known + unknown)))
    characters = len("the house σπίτι finds ψωμί ") + len("bread ")
    assert metrics["bits per character"] == pytest.approx(nats / math.log(2) / characters)


def test_unknown_text_alone_has_figures_too(vocabularies, tmp_path):
    tokenizer = vocabularies["own"]
    path = tmp_path / "zh.txt"
    path.write_text("中文", encoding="utf-8")
    text = measured_text(TextFiles("zh", (path,)), tokenizer, 16)
    text.blocks[text.blocks == tokenizer.convert_tokens_to_ids("▁")] = tokenizer.unk_token_id
    text.unknown[:], text.ordinary[:] = text.unknown + text.ordinary, 0
    metrics = perplexity_metrics(sums_of(Scorer(None), text, tokenizer).sum(0))
    assert metrics["bits per character"] == pytest.approx(8 * 6 / 3)
    assert metrics["accuracy"] == 0


def test_the_loss_is_a_number_where_the_perplexity_is_none():
    """Of a line of a hundred characters that are one <unk>."""
    sums = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 101.0, 300.0])
    assert loss_a_token(sums) == pytest.approx(300 * math.log(256))
    metrics = perplexity_metrics(sums)
    assert metrics["perplexity"] == math.inf
    assert metrics["bits per character"] == pytest.approx(2400 / 101)


def test_to_predict_unknown_is_never_right():
    sums = np.array([[2.0, 10.0, 10.0, 20.0, 20.0, 100.0, 0.0]])
    assert perplexity_metrics(sums)["accuracy"][0] == pytest.approx(0.5)


@pytest.mark.parametrize("whole_words", [False, True])
def test_tokens_of_short_lines_count_as_those_of_long_ones(vocabularies, tmp_path, whole_words):
    tokenizer = vocabularies["own"]
    lines = [*sentences(GREEK[:2], 60, 1, 1, 1), *sentences(GREEK, 12, 2, 20, 20)]
    path = tmp_path / "el.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    text = measured_text(TextFiles("el", (path,), repeated=True), tokenizer, 128, "lines")
    length = torch.from_numpy(text.ordinary)

    def logits(labels, rows):
        """Easy in long rows, hard in short ones."""
        out = torch.zeros(len(rows), len(tokenizer))
        out[torch.arange(len(rows)), labels[labels != -100]] = torch.where(is_long[rows], 4.0, 0.0)
        return out

    logs = torch.zeros(2, len(tokenizer))
    logs[1, 0] = 4.0
    hard, easy = torch.log_softmax(logs, 1)[:, 0].neg().double().tolist()
    exact = float(torch.where(length > 20, easy, hard).double().mul(length).sum() / length.sum())
    starts = np.char.startswith(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))), "▁")
    more = {"word_starts": starts} if whole_words else {}
    found = []
    for seed in range(60):
        collator = collator_of(tokenizer, seed, **more)
        blocks, chosen = to_predict(text, collator)
        is_long = torch.from_numpy(text.ordinary[blocks] > 20)
        sums = sums_of_given(Scorer(logits), text, blocks, chosen, collator)
        found.append(math.log(perplexity_metrics(sums.sum(0))["perplexity"]))
        share = sum(each.sum() for each in chosen) / text.ordinary.sum()
        assert share == pytest.approx(0.15, abs=0.05 if whole_words else 0.001)
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found) - exact) < 4 * error + 1e-9


def sums_of_given(model, text, blocks, chosen, collator):
    predicted = block_statistics(
        *(model, text.blocks[blocks], [0] * len(blocks), blocks.tolist(), collator),
        chosen=chosen,
        unk_id=3,
        batch_size=len(blocks),
    )
    return text_statistics(text, blocks, predicted, causal=False)


def test_every_token_is_chosen_as_often(vocabularies, tmp_path):
    tokenizer = vocabularies["own"]
    path = tmp_path / "el.txt"
    path.write_text("\n".join([*sentences(GREEK, 30, 1, 1, 1), *sentences(GREEK, 3, 2, 9, 9)]), encoding="utf-8")
    text = measured_text(TextFiles("el", (path,), repeated=True), tokenizer, 64, "lines")
    counts = sum(collator_of(tokenizer, seed).choose(text.blocks).astype(int) for seed in range(1000))
    ordinary = ~np.isin(text.blocks, tokenizer.all_special_ids)
    assert (counts[~ordinary] == 0).all()
    mean = round(0.15 * ordinary.sum()) / ordinary.sum()
    deviation = math.sqrt(1000 * mean * (1 - mean))
    assert (abs(counts[ordinary] - 1000 * mean) < 5 * deviation).all()
    by_row = (counts * ordinary).sum(1) / ordinary.sum(1)
    short = ordinary.sum(1) < 9
    assert by_row[short].mean() == pytest.approx(by_row[~short].mean(), rel=0.05)


def test_one_token_is_chosen_of_the_shortest_text(vocabularies):
    chosen = collator_of(vocabularies["own"]).choose(np.array([[0, 7, 2, 1], [0, 9, 2, 1]]))
    assert chosen.sum() == 1
    assert chosen[:, 1].any()
