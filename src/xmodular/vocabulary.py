"""Tokenizers with XLM-R's id layout: load one, or train one on language-smoothed text.

The layout is ``<s>`` 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3, the pieces, and ``<mask>`` last. A SentencePiece model
(``<unk>`` 0, ``<s>`` 1, ``</s>`` 2, pieces) enters by one road, whether it is XLM-R's file or one trained here, so a
piece's id is its SentencePiece id plus one.
"""

from __future__ import annotations

import hashlib
import io
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from xmodular.configuration import XmodConfig
from xmodular.errors import ConfigurationError, DataError
from xmodular.files import is_missing_folder
from xmodular.packs.tokenizer import BYTE_SPELLING, problem

_OTHER_FILES = (
    "vocab.txt",
    "vocab.json",
)  # of WordPiece and of byte-level BPE, which transformers turns into a fast form
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer.

    Args:
        source: a folder with ``tokenizer.json`` or ``sentencepiece.bpe.model``, such a ``.model`` file itself, or the
            name of a repository on the Hub.

    Raises:
        DataError: there is no tokenizer, or it lacks one of the special tokens.
    """
    path = Path(source)
    if path.is_file():
        return from_sentencepiece(path.read_bytes())
    if path.is_dir() and not (path / "tokenizer.json").is_file():
        model = path / "sentencepiece.bpe.model"
        if model.is_file():
            return from_sentencepiece(model.read_bytes())
        if not any((path / name).is_file() for name in _OTHER_FILES):
            raise DataError(f"No tokenizer in {path}: it has neither tokenizer.json nor sentencepiece.bpe.model.")
    if is_missing_folder(source):
        raise DataError(f"No tokenizer at {source}: there is no such folder.")
    if not path.exists() and len(path.parts) == 1:
        _ask_hub(str(source))
    try:
        # The class is the one that the files name; released checkpoints name XLM-R's, which knows its special tokens.
        tokenizer: Any = AutoTokenizer.from_pretrained(str(source))
    except Exception as error:  # the libraries have no class of their own for damaged files
        raise DataError(f"No tokenizer at {source}, neither as a path nor on the Hub: {error}") from error
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise DataError(f"The tokenizer at {source} ({type(tokenizer).__name__}) has no fast form (tokenizer.json).")
    _settle_roles(tokenizer, source)
    return tokenizer


def _settle_roles(tokenizer: PreTrainedTokenizerFast, source: str | Path) -> None:
    """Gives the tokens around a text both of their names: BERT's are ``cls`` and ``sep``, others' ``bos`` and ``eos``.

    Raises:
        DataError: a special token is missing, or has two purposes.
    """
    for one, other in (("cls_token", "bos_token"), ("sep_token", "eos_token")):
        for name, twin in ((one, other), (other, one)):
            if getattr(tokenizer, name) is None and getattr(tokenizer, twin) is not None:
                setattr(tokenizer, name, getattr(tokenizer, twin))
    names = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
    for name in names:
        if getattr(tokenizer, name) is None:
            raise DataError(f"The tokenizer at {source} has no {name}; X-MOD needs one.")
    if len({getattr(tokenizer, name) for name in names}) < len(names):
        tokens = ", ".join(f"{name} {getattr(tokenizer, name)}" for name in names)
        raise DataError(f"The tokenizer at {source} uses one token for two purposes ({tokens}); X-MOD needs five.")


def _ask_hub(name: str) -> None:
    """Ask the Hub once for a name of one word: old repositories have such names, but most are folders misspelt.

    Loading it would ask again and again, for most of a minute where there is no network.

    Raises:
        DataError: the Hub does not have it, or cannot be asked, and it was not fetched before.
    """
    import huggingface_hub

    if isinstance(huggingface_hub.try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        huggingface_hub.HfApi().model_info(name, timeout=10)
    except Exception as error:  # those of the connection have no class in common
        raise DataError(
            f"No tokenizer at {name}: there is no such folder, and the Hub does not give it ({error!s:.200})."
        ) from error


def train_tokenizer(
    text: Mapping[str, Iterable[str]],
    vocab_size: int,
    *,
    alpha: float = 0.3,
    max_lines: int = 2_000_000,
    seed: int = 0,
    byte_fallback: bool = False,
) -> PreTrainedTokenizerFast:
    """Train a unigram tokenizer (Kudo 2018) on all languages, the small ones raised by smoothing.

    A language with share p of the characters counts as if its share were proportional to p^alpha: its lines are
    repeated, the largest language's are not.

    Args:
        text: lines by language; each iterable is read twice.
        vocab_size: rows the vocabulary is to have, the five special tokens included. Little text may yield fewer.
        alpha: smoothing exponent in [0, 1]; 1 keeps the natural shares.
        max_lines: at most so many lines are sampled, all languages together.
        seed: seed of that sampling.
        byte_fallback: add the 256 bytes to the pieces, and spell with them what no other piece spells, in place of
            ``<unk>``.

    Raises:
        ConfigurationError: the vocabulary is too small for the characters of the text.
        DataError: there is no text, or it is no collection of lines.
    """
    characters, lines = {}, {}
    for language, language_lines in text.items():
        if isinstance(language_lines, (str, bytes, Mapping, Iterator)) or hasattr(language_lines, "columns"):
            raise DataError(
                f"The text of {language} is a {type(language_lines).__name__}: give a list of lines, or another "
                "collection of them that can be read twice."
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
            max_sentence_length=2**24,  # bytes; longer lines would be left out without a word
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
    return from_sentencepiece(model.getvalue())


def repetitions(sizes: Mapping[str, int], alpha: float) -> dict[str, float]:
    """How often each language's text counts under smoothing with `alpha`; the least repeated language counts once.

    With n the size of a language, that is proportional to n^alpha / n. Empty languages count 0 times.
    """
    weights = {language: size ** (alpha - 1) if size else 0.0 for language, size in sizes.items()}
    least = min((weight for weight in weights.values() if weight), default=1.0)
    return {language: weight / least for language, weight in weights.items()}


def from_sentencepiece(model: bytes) -> PreTrainedTokenizerFast:
    """Turn a serialised SentencePiece unigram model into a fast tokenizer with XLM-R's layout.

    Args:
        model: content of a ``.model`` file whose first pieces are ``<unk> <s> </s>``.

    Raises:
        DataError: the bytes are no unigram SentencePiece model of that form.
    """
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(model)
    except Exception as error:  # protobuf's DecodeError has moved between releases
        raise DataError(f"This is not a SentencePiece model: {error}") from error
    first = [piece.piece for piece in proto.pieces[:3]]
    if proto.trainer_spec.model_type != 1 or first != ["<unk>", "<s>", "</s>"]:
        raise DataError(f"Needed: a unigram SentencePiece model starting <unk> <s> </s>; this one starts {first}.")
    pieces = [(token, 0.0) for token in SPECIAL_TOKENS[:4]]
    pieces += [(piece.piece, piece.score) for piece in proto.pieces[3:]]
    pieces.append(("<mask>", 0.0))
    bytes_too: bool = proto.trainer_spec.byte_fallback
    backend = Tokenizer(Unigram(pieces, unk_id=3, byte_fallback=bytes_too))
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
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return _with_special_tokens(backend)


def from_json(text: str, rows: int) -> PreTrainedTokenizerFast:
    """The tokenizer that a ``tokenizer.json`` for so many word embeddings holds; its special tokens are XLM-R's.

    Raises:
        DataError: the text is no such file, or a special token is missing.
    """
    if wrong := problem(text, rows):
        raise DataError(f"The tokenizer.json does not do: {wrong}.")
    return _with_special_tokens(Tokenizer.from_str(text))


def _with_special_tokens(backend: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        # The mask stands for a word, so it takes the space before it.
        mask_token=AddedToken("<mask>", lstrip=True, special=True),
        model_input_names=["input_ids", "attention_mask"],
    )


def start_rows(
    tokenizer: PreTrainedTokenizerFast,
    known: PreTrainedTokenizerFast,
    words: Tensor,
    bias: Tensor,
    *,
    method: str = "pieces",
    seed: int = 0,
) -> tuple[Tensor, Tensor, dict[str, int]]:
    """Word embeddings for a new vocabulary, started from those of a known one.

    Pieces that both have are copied, as in SwissBERT (Vamvas et al. 2023). Of the rest, "pieces" takes the mean of the
    known pieces that spell the new one, as far as there are any; "random", and what is left, is drawn from a normal
    distribution with each dimension's mean and standard deviation over the known rows.

    Args:
        tokenizer: the new vocabulary.
        known: the known one.
        words: *Shape: (known pieces at least, hidden)*, its embeddings.
        bias: *Shape: (known pieces at least,)*, the output bias of its pieces.
        method: "pieces" or "random".
        seed: of what is drawn.

    Returns:
        *(pieces, hidden)* and *(pieces,)*, in `words`' dtype, and how many pieces were "copied", "composed", "random".

    Raises:
        ConfigurationError: there is no such method.
    """
    if method not in ("pieces", "random"):
        raise ConfigurationError(f"start_rows is 'pieces' or 'random'; not {method!r}.")
    source = words.detach().float().cpu()[: len(known)]
    source_bias = bias.detach().float().cpu()[: len(known)]
    ids, model, special = known.get_vocab(), known.backend_tokenizer.model, set(known.all_special_ids)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(tokenizer), source.shape[1], generator=generator)
    rows = source.mean(0) + noise * source.std(0)
    own_bias = source_bias.mean().repeat(len(tokenizer))
    counts = {"copied": 0, "composed": 0, "random": 0}
    for index, piece in enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))):
        parts = [ids[piece]] if piece in ids else []
        if not parts and method == "pieces":
            parts = [token.id for token in model.tokenize(piece) if token.id not in special]
        if parts:
            rows[index], own_bias[index] = source[parts].mean(0), source_bias[parts].mean()
        counts["copied" if piece in ids else "composed" if parts else "random"] += 1
    return rows.to(words.dtype), own_bias.to(words.dtype), counts


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path, config: XmodConfig) -> None:
    """Save a tokenizer beside the model of that configuration, with the model's length as its own.

    Whatever cuts texts by it, such as transformers' pipelines, then cuts where the model's positions end.
    """
    tokenizer.model_max_length = positions_of(config)
    tokenizer.save_pretrained(folder)


def positions_of(config: XmodConfig) -> int:
    """The most tokens that a model of that configuration reads."""
    return config.max_position_embeddings - config.pad_token_id - 1


def text_backend(tokenizer: PreTrainedTokenizerFast, but: str | None = None) -> Tokenizer:
    """The fast core of a tokenizer as it reads text, in which ``<s>`` or ``<mask>`` are characters like any others.

    What is spelled like a special token never becomes one. Nothing is cut or filled up, whatever the tokenizer was set
    to; special tokens are still put around a text where they are asked for. Making it takes less than a millisecond:
    it shares the tokenizer's model, and leaves the tokenizer as it is.

    Args:
        tokenizer: the tokenizer.
        but: a special token that stays one where a text spells it.
    """
    backend = tokenizer.backend_tokenizer
    reader = Tokenizer(backend.model)
    reader.normalizer, reader.post_processor, reader.decoder = (
        backend.normalizer,
        backend.post_processor,
        backend.decoder,
    )
    added = backend.get_added_tokens_decoder()
    for token in added.values():
        token.special = token.special and token.content != but
    reader.add_tokens([added[index] for index in sorted(added)])
    reader.encode_special_tokens = True
    # The special tokens may be pieces of the model too: it must not see one in full.
    names = {token.content for token in added.values() if token.special} | set(tokenizer.all_special_tokens)
    starts = "|".join(f"{re.escape(name[0])}(?={re.escape(name[1:])})" for name in sorted(names) if len(name) > 1)
    steps: list[Any] = [] if backend.pre_tokenizer is None else [backend.pre_tokenizer]
    steps.append(pre_tokenizers.Split(Regex(starts), "merged_with_previous"))
    reader.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return reader


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """A hash of everything that decides which ids a text gets; what a call cuts or fills up is not among it."""
    backend = tokenizer.backend_tokenizer
    if backend.truncation or backend.padding:
        backend = Tokenizer.from_str(backend.to_str())
        backend.no_truncation()
        backend.no_padding()
    return hashlib.sha256(backend.to_str().encode()).hexdigest()
