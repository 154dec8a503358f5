"""Unigram tokenizers: train one on language-smoothed text, or read a SentencePiece model.

A trained one has XLM-R's layout: ``<s>`` 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3, the pieces, and ``<mask>`` last. A
SentencePiece model (``<unk>`` 0, ``<s>`` 1, ``</s>`` 2, pieces) is read in the same way, whether it is XLM-R's or
trained here, so a piece's id is its SentencePiece id plus one. For a base with another vocabulary, ``<pad>`` gets the
base's id, and special tokens are added around a text as in the base.
"""

from __future__ import annotations

import io
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

from xmodular.errors import ConfigurationError, DataError
from xmodular.tokenizer_rules import BYTE_SPELLING, SPECIAL_TOKENS, running_problem
from xmodular.vocabulary.fast_tokenizers import text_backend, with_special_tokens


def train_tokenizer(
    text: Mapping[str, Iterable[str]],
    vocab_size: int,
    *,
    alpha: float = 0.3,
    max_lines: int = 2_000_000,
    seed: int = 0,
    byte_fallback: bool = False,
    like: PreTrainedTokenizerFast | None = None,
) -> PreTrainedTokenizerFast:
    """Train a unigram tokenizer (Kudo 2018) on all languages, with smoothing in favour of the small ones.

    A language with share p of the characters counts as if its share were proportional to p^alpha: its lines are
    repeated, except the largest language's.

    Args:
        text: lines by language; each iterable is read twice.
        vocab_size: size of the vocabulary, including the five special tokens. With little text it may be smaller.
        alpha: smoothing exponent in [0, 1]; 1 keeps the natural shares.
        max_lines: the most lines to sample, over all languages.
        seed: seed of that sampling.
        byte_fallback: add the 256 bytes as pieces, and spell with them what no other piece can spell, instead of
            ``<unk>``.
        like: the tokenizer of a model that will also use this one, as for `from_sentencepiece`.

    Raises:
        ConfigurationError: the vocabulary is too small for the characters of the text.
        DataError: there is no text, or it is not a collection of lines.
    """
    characters, lines = {}, {}
    for language, language_lines in text.items():
        if isinstance(language_lines, (str, bytes, Mapping, Iterator)) or hasattr(type(language_lines), "columns"):
            raise DataError(
                f"The text of {language} is a {type(language_lines).__name__}: give a list of lines, or another "
                "collection that can be read twice."
            )
        lengths = [len(line) for line in language_lines]
        characters[language], lines[language] = sum(lengths), len(lengths)
    repeats = repetitions(characters, alpha)
    total = sum(repeats[language] * count for language, count in lines.items())
    if not total:
        raise DataError(f"There is no text to train a tokenizer on (languages: {', '.join(text) or 'none'}).")
    scale = min(1.0, max_lines / total)
    draw = random.Random(seed)

    def sample() -> Iterator[str]:
        for language, language_lines in text.items():
            repeat = repeats[language] * scale
            for line in language_lines:
                for _ in range(int(repeat) + (draw.random() < repeat % 1)):
                    yield line

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sample(),
            model_writer=model,
            model_type="unigram",
            # SentencePiece counts <unk> <s> </s>; this layout adds <pad> and <mask>.
            vocab_size=vocab_size - 2,
            hard_vocab_limit=False,
            normalization_rule_name="nmt_nfkc",
            character_coverage=0.9995,
            max_sentence_length=2**24,  # bytes; longer lines would be left out silently
            byte_fallback=byte_fallback,
            input_sentence_size=0,
            num_threads=8,  # fixed: the sums, and so the pieces, depend on it
            minloglevel=2,
        )
    except RuntimeError as error:
        if short := re.search(r"required_chars\. \d+ vs (\d+)", str(error)):
            raise ConfigurationError(
                f"vocab_size={vocab_size} does not suit this text: its characters alone need {int(short[1]) + 2}."
            ) from error
        raise ConfigurationError(f"vocab_size={vocab_size} does not suit this text: {error}") from error
    return from_sentencepiece(model.getvalue(), like=like)


def repetitions(sizes: Mapping[str, int], alpha: float) -> dict[str, float]:
    """How often each language's text is repeated for smoothing with `alpha`; the least repeated one is used once.

    With n the size of a language, that is proportional to n^alpha / n. Empty languages count 0 times.
    """
    weights = {language: size ** (alpha - 1) if size else 0.0 for language, size in sizes.items()}
    least = min((weight for weight in weights.values() if weight), default=1.0)
    return {language: weight / least for language, weight in weights.items()}


def from_sentencepiece(model: bytes, *, like: PreTrainedTokenizerFast | None = None) -> PreTrainedTokenizerFast:
    """Turn a serialised SentencePiece unigram model into a fast tokenizer with XLM-R's layout.

    Args:
        model: content of a ``.model`` file whose first pieces are ``<unk> <s> </s>``.
        like: a tokenizer whose padding id and special tokens around a text are taken over.

    Raises:
        DataError: the bytes are not such a unigram SentencePiece model, are too small for that padding id, or have a
            character table that can make a text explode in length.
    """
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(model)
    except Exception as error:  # protobuf's DecodeError has moved between releases
        raise DataError(f"This is not a SentencePiece model: {error}") from error
    first = [piece.piece for piece in proto.pieces[:3]]
    if proto.trainer_spec.model_type != 1 or first != ["<unk>", "<s>", "</s>"]:
        raise DataError(f"Not a unigram SentencePiece model with <unk> <s> </s> first; this one starts with {first}.")
    pieces = [(token, 0.0) for token in SPECIAL_TOKENS if token not in ("<pad>", "<mask>")]
    pieces += [(piece.piece, piece.score) for piece in proto.pieces[3:]]
    pieces.append(("<mask>", 0.0))
    pad = 1 if like is None else like.pad_token_id
    if pad > len(pieces):
        raise DataError(f"The model's padding is piece {pad}, but this vocabulary has only {len(pieces)} other pieces.")
    pieces.insert(pad, ("<pad>", 0.0))
    bytes_too: bool = proto.trainer_spec.byte_fallback
    backend = Tokenizer(Unigram(pieces, unk_id=2 + (pad < 3), byte_fallback=bytes_too))
    if charsmap := proto.normalizer_spec.precompiled_charsmap:
        backend.normalizer = normalizers.Precompiled(charsmap)
    splits: list[Any] = [
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
    ]
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    if bytes_too:
        # Text that spells <0x41> must not become the byte.
        splits.append(pre_tokenizers.Split(Regex(BYTE_SPELLING), "isolated"))
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), backend.decoder])
    backend.pre_tokenizer = pre_tokenizers.Sequence(splits)
    single, pair = ("<s> $A </s>", "<s> $A </s> </s> $B </s>") if like is None else map(_template, (like, like), (1, 2))
    ends = [(token, backend.token_to_id(token)) for token in ("<s>", "</s>")]
    backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ends)
    if wrong := running_problem(backend):
        raise DataError(f"The SentencePiece model is refused: {wrong}.")
    return with_special_tokens(backend)


def _template(like: PreTrainedTokenizerFast, texts: int) -> str:
    """The template of a tokenizer for one text or two, in the tokens of this layout, each with its type.

    Raises:
        DataError: it has other tokens than those that begin and end a text.
    """
    names = {like.cls_token_id: "<s>", like.sep_token_id: "</s>"}
    parts: list[str] = []
    encoding = text_backend(like).encode("a", "a" if texts == 2 else None)
    for token, kind, text in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
        if text is None and token not in names:
            raise DataError(f"The base's tokenizer puts {like.convert_ids_to_tokens(token)} around a text.")
        part = f"{names[token] if text is None else '$A' if text == 0 else '$B'}:{kind}"
        if text is None or part not in parts:  # a text may be several tokens
            parts.append(part)
    return " ".join(parts)
