"""Masks, by their statistics."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.conftest import DEVELOPMENT_DATA
from xmodular.errors import ConfigurationError
from xmodular.text import CausalLMCollator, MaskedLMCollator, word_starts
from xmodular.text.masking import begins_word
from xmodular.text.packing import Packer
from xmodular.text.tokenising import Encoder
from xmodular.vocabulary import train_tokenizer

SPECIAL, MASK, PAD, VOCABULARY = (0, 1, 2, 3, 999), 999, 1, 1000


def collator(seed: int = 0) -> MaskedLMCollator:
    return MaskedLMCollator(special_ids=SPECIAL, mask_id=MASK, pad_id=PAD, vocab_size=VOCABULARY, seed=seed)


def rows(count: int, length: int, *, draw: int = 0) -> list[dict]:
    random = np.random.default_rng(9)
    blocks = random.integers(4, 999, size=(count, length)).astype(np.uint16)
    blocks[:, 0], blocks[:, 10], blocks[:, -3:] = 0, 2, PAD
    return [{"input_ids": block, "lang_id": number % 3, "draw": draw + number} for number, block in enumerate(blocks)]


def within(count: int, trials: int, share: float) -> bool:
    return abs(count - trials * share) < 3 * (trials * share * (1 - share)) ** 0.5


def test_statistics_over_a_hundred_thousand_tokens():
    given = rows(800, 133)
    batch = collator()(given)
    original = torch.from_numpy(np.stack([row["input_ids"] for row in given]).astype(np.int64))
    special = torch.isin(original, torch.tensor(SPECIAL))
    inputs, labels = batch["input_ids"], batch["labels"]
    chosen = labels != -100
    tokens = int((~special).sum())
    assert tokens > 100_000
    assert within(int(chosen.sum()), tokens, 0.15)
    assert not chosen[special].any()
    assert torch.equal(labels[chosen], original[chosen])
    assert torch.equal(inputs[~chosen], original[~chosen])
    masked = inputs[chosen] == MASK
    kept = inputs[chosen] == original[chosen]
    replaced = inputs[chosen][~masked & ~kept]
    count = int(chosen.sum())
    assert within(int(masked.sum()), count, 0.8)
    # a random token is the original one time in 995
    assert within(int(kept.sum()), count, 0.1 + 0.1 / 995)
    assert within(len(replaced), count, 0.1 * (1 - 1 / 995))
    assert not torch.isin(replaced, torch.tensor(SPECIAL)).any()
    assert len(replaced.unique()) > 700  # from all over the vocabulary


def test_batch_is_what_the_model_takes():
    batch = collator()(rows(4, 20))
    assert batch["sparse_prediction"] is True
    assert batch["lang_ids"].tolist() == [0, 1, 2, 0]
    assert batch["attention_mask"].tolist() == [[1] * 17 + [0] * 3] * 4
    assert {batch[name].dtype for name in ("input_ids", "attention_mask", "lang_ids", "labels")} == {torch.int64}


def test_masks_are_a_function_of_seed_and_draw():
    first, again, later = (collator()(rows(4, 40, draw=draw)) for draw in (5, 5, 6))
    assert torch.equal(first["labels"], again["labels"])
    assert not torch.equal(first["labels"], later["labels"])
    assert not torch.equal(first["labels"], collator(seed=1)(rows(4, 40, draw=5))["labels"])
    # A row has the same masks in whatever batch it is.
    parts = [collator()(rows(4, 40, draw=5)[part]) for part in (slice(0, 1), slice(1, 4))]
    for name in ("input_ids", "labels"):
        assert torch.equal(torch.cat([part[name] for part in parts]), first[name])


def word_lengths(ids: np.ndarray, ordinary: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """How many tokens the word of each token has, (rows, tokens)."""
    before = np.pad(ordinary, ((0, 0), (1, 0)))[:, :-1]
    words = (ordinary & (starts[ids] | ~before)).cumsum()
    return np.bincount(words, weights=ordinary.ravel())[words].reshape(ids.shape)


def test_whole_words_are_chosen_together_at_the_same_rate():
    starts = np.random.default_rng(4).random(VOCABULARY) < 0.5
    words = MaskedLMCollator(special_ids=SPECIAL, mask_id=MASK, pad_id=PAD, vocab_size=VOCABULARY, word_starts=starts)
    given = rows(800, 133)
    batch = words(given)
    original = np.stack([row["input_ids"] for row in given]).astype(np.int64)
    ordinary = ~np.isin(original, SPECIAL)
    chosen = batch["labels"].numpy() != -100
    assert not chosen[~ordinary].any()
    assert within(int(chosen.sum()), int(ordinary.sum()), 0.15)
    goes_on = ordinary[:, 1:] & ordinary[:, :-1] & ~starts[original[:, 1:]]
    short = (word_lengths(original, ordinary, starts) <= 10)[:, 1:]  # longer ones are no words
    assert (chosen[:, 1:] == chosen[:, :-1])[goes_on & short].all()
    begins = ordinary[:, 1:] & ordinary[:, :-1] & starts[original[:, 1:]]
    assert 0.7 < (chosen[:, 1:] == chosen[:, :-1])[begins].mean() < 0.8  # 0.15² + 0.85² = 0.745
    fate = batch["input_ids"].numpy()[chosen]
    assert within(int((fate == MASK).sum()), int(chosen.sum()), 0.8)


def test_word_starts_are_the_marked_pieces(tokenizer):
    starts = word_starts(tokenizer)
    ids = tokenizer.encode("the house finds bread", add_special_tokens=False)
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert starts[ids].sum() == 4
    assert [bool(start) for start in starts[ids]] == [piece[0] == "▁" for piece in pieces]


def spreads(blocks: np.ndarray, tokenizer: PreTrainedTokenizerFast) -> tuple[np.ndarray, np.ndarray]:
    """Each row's share of chosen tokens, with whole words and token by token."""
    options = {
        "special_ids": tokenizer.all_special_ids,
        "mask_id": tokenizer.mask_token_id,
        "vocab_size": len(tokenizer),
    }
    given = [{"input_ids": block, "lang_id": 0, "draw": number} for number, block in enumerate(blocks)]
    ordinary = ~np.isin(blocks, tokenizer.all_special_ids)
    words, tokens = (
        (MaskedLMCollator(pad_id=1, word_starts=starts, **options)(given)["labels"].numpy() != -100).sum(1)
        / ordinary.sum(1)
        for starts in (word_starts(tokenizer), None)
    )
    return words, tokens


def assert_no_wider(blocks: np.ndarray, tokenizer: PreTrainedTokenizerFast) -> None:
    words, tokens = spreads(blocks, tokenizer)
    assert words.std() < 1.1 * tokens.std()
    assert (words > 0.5).mean() <= (tokens > 0.5).mean() + 0.005  # rows of a token or two
    assert words.mean() == pytest.approx(0.15, abs=0.01)


def packed(lines: list[str], tokenizer: PreTrainedTokenizerFast, packing: str) -> np.ndarray:
    packer = Packer(packing, 64, bos_id=0, eos_id=2, pad_id=1)
    return np.concatenate([packer.add(Encoder(tokenizer)(lines)), packer.end()])


@pytest.mark.parametrize("packing", ["fill", "lines"])
@pytest.mark.parametrize("language", ["zh_CN", "zh_TW", "th_TH"])
def test_whole_words_in_scripts_without_spaces_mask_rows_as_evenly_as_tokens(xlmr, language, packing):
    lines = []
    for path in sorted((DEVELOPMENT_DATA / "text").glob(f"{language}*.txt")):
        lines += [line for line in path.read_text(encoding="utf-8").splitlines() if len(line) > 9][:500]
    assert len(lines) > 500
    assert_no_wider(packed(lines, xlmr, packing), xlmr)


THAI, HAN, KANA, KHMER = (
    "กขคงจฉชซญดตถทธนบปผพฟ",
    "天地玄黄宇宙洪荒日月盈昃辰宿列张",
    "あいうえおカキクケコーサシ",
    "កខគឃងចឆជឈញ",
)


@pytest.mark.parametrize("packing", ["fill", "lines"])
@pytest.mark.parametrize("letters", [THAI, HAN, KANA, KHMER, "abcdefgh0123456789"], ids=str)
def test_long_runs_mask_rows_as_evenly_as_tokens(letters, packing):
    """Phrases of three to thirty characters between spaces; Latin ones stand for addresses and numbers."""
    random = np.random.default_rng(1)
    longest = 60 if letters[0] == "a" else 30
    lines = [
        " ".join("".join(random.choice(list(letters), random.integers(longest // 2, longest))) for _ in range(4))
        for _ in range(250)
    ]
    own = train_tokenizer({"x": lines}, 60)
    assert_no_wider(packed(lines, own, packing), own)
    spelled = train_tokenizer({"en": ["some words of another script"] * 9}, 330, byte_fallback=True)
    assert_no_wider(packed(lines[:100], spelled, packing), spelled)


def test_pieces_of_scripts_without_spaces_are_words():
    for text in (THAI, HAN, KANA, KHMER, "ກຂຄງຈ", "ကခဂဃင", "ཀཁགངཅ་", "々〆ㄅ", "꒐ꀀ"):
        assert all(begins_word(character) for character in text), text
    for text in ("abcäß", "абв", "αβγ", "אבג", "ابت", "कखग", "தமி", "가나다", "ა", "አ", "12.,-/"):
        assert not any(begins_word(character) for character in text), text


def fast(model, before, **more):
    backend = Tokenizer(model)
    backend.pre_tokenizer = before
    return PreTrainedTokenizerFast(tokenizer_object=backend, **more)


def test_words_begin_where_a_tokenizer_of_another_kind_begins_them():
    pieces = ["<unk>", "O", "f", "Ġc", "our", "se", "Ġthe"]
    merges = [("Ġ", "c"), ("o", "u"), ("ou", "r"), ("s", "e"), ("t", "h"), ("th", "e"), ("Ġ", "the")]
    letters = sorted({letter for pair in merges for letter in pair} | {"ou", "th", "the"})
    names = {piece: number for number, piece in enumerate(dict.fromkeys([*pieces, *letters]))}
    byte_level = fast(models.BPE(names, merges), pre_tokenizers.ByteLevel(add_prefix_space=False), unk_token="<unk>")
    ids = byte_level("Of course the", add_special_tokens=False)["input_ids"]
    assert byte_level.convert_ids_to_tokens(ids) == ["O", "f", "Ġc", "our", "se", "Ġthe"]
    assert word_starts(byte_level)[ids].tolist() == [False, False, True, False, False, True]

    names = {piece: number for number, piece in enumerate(["[UNK]", "of", "cour", "##se", ".", "天"])}
    word_piece = fast(models.WordPiece(names, unk_token="[UNK]"), pre_tokenizers.BertPreTokenizer(), unk_token="[UNK]")
    ids = word_piece("of course.", add_special_tokens=False)["input_ids"]
    assert word_starts(word_piece)[ids].tolist() == [True, True, False, True]

    words = fast(models.WordLevel({"[UNK]": 0, "of": 1}, "[UNK]"), pre_tokenizers.Whitespace(), unk_token="[UNK]")
    with pytest.raises(ConfigurationError, match="do not show where a word begins"):
        word_starts(words)


def test_causal_labels_are_the_tokens():
    given = rows(3, 20)
    batch = CausalLMCollator(pad_id=PAD)(given)
    ids = torch.from_numpy(np.stack([row["input_ids"] for row in given]).astype(np.int64))
    assert torch.equal(batch["input_ids"], ids)
    assert torch.equal(batch["labels"][:, 1:17], ids[:, 1:17])
    assert (batch["labels"][:, [0, 17, 18, 19]] == -100).all()
    assert batch["attention_mask"].tolist() == [[1] * 17 + [0] * 3] * 3


@pytest.mark.parametrize("draw", range(20))
def test_a_short_batch_has_something_to_predict(draw: int):
    row = {"input_ids": np.array([0, 50, 2, 1, 1]), "lang_id": 0, "draw": draw}
    assert collator()([row])["labels"].tolist() == [[-100, 50, -100, -100, -100]]
