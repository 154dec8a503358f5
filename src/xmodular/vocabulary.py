"""Tokenizers: load one of any kind that has a fast form, or train one on language-smoothed text.

A trained one has XLM-R's layout: ``<s>`` 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3, the pieces, and ``<mask>`` last. A
SentencePiece model (``<unk>`` 0, ``<s>`` 1, ``</s>`` 2, pieces) enters by one road, whether it is XLM-R's file or one
trained here, so a piece's id is its SentencePiece id plus one. Beside a base with another vocabulary, ``<pad>`` has the
base's id, and the special tokens stand around a text as the base's do.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from xmodular.catalogue import RELEASES, released_as
from xmodular.configuration import XmodConfig
from xmodular.errors import ConfigurationError, DataError, in_one_line, speaking
from xmodular.files import is_missing_folder
from xmodular.hub import hub_source, on_hub, refusal
from xmodular.packs.tokenizer import BYTE_SPELLING, problem, running_problem, special_tokens
from xmodular.pieces import ROLES
from xmodular.vetting import check_rules, checked

# The last two are of WordPiece and of byte-level BPE, which transformers turns into a fast form.
_FILES = ("tokenizer.json", "sentencepiece.bpe.model", "vocab.txt", "vocab.json")
_TYPES = "token_type_ids"
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


@speaking
def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer.

    Args:
        source: a folder with ``tokenizer.json`` or ``sentencepiece.bpe.model``, such a ``.model`` file itself, or the
            name of a repository on the Hub. A released X-MOD without a tokenizer has the one that it was trained with.

    Nothing that comes with it runs, and nothing is asked.

    Raises:
        DataError: there is no tokenizer, it lacks one of the special tokens, asks for code of its own, or has rules
            that can blow a text up.
    """
    asked, source = source, _home(source)
    path = Path(source)
    if path.is_file():
        return from_sentencepiece(path.read_bytes())
    if path.is_dir() and not (path / "tokenizer.json").is_file():
        model = path / "sentencepiece.bpe.model"
        if model.is_file() and not _is_camembert(path):
            return from_sentencepiece(model.read_bytes())
        if not _has_files(path):
            raise DataError(f"No tokenizer in {path}: it has neither tokenizer.json nor sentencepiece.bpe.model.")
    if is_missing_folder(source):
        raise DataError(f"No tokenizer at {source}: there is no such folder.")
    if not (path / "tokenizer_config.json").exists() and (alone := _alone(path)) is not None:
        return alone
    name, where = hub_source(source)
    if not path.exists() and len(Path(name).parts) == 1:
        _ask_hub(name)
    config = checked(source)
    try:
        # The class is the one that the files name; released checkpoints name XLM-R's, which knows its special tokens.
        tokenizer: Any = AutoTokenizer.from_pretrained(name, config=config, trust_remote_code=False, **where)
    except Exception as error:  # the libraries have no class of their own for damaged files
        of = "" if asked == source else f", where that of {asked} is"
        said = in_one_line(error) if path.exists() else refusal(source, error)
        raise DataError(f"No tokenizer at {source}{of}: {said.rstrip('.')}.") from error
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise DataError(f"The tokenizer at {source} ({type(tokenizer).__name__}) has no fast form (tokenizer.json).")
    if wrong := running_problem(tokenizer.backend_tokenizer):
        raise DataError(f"The tokenizer at {source} is refused: {wrong}.")
    for name in ("is_local", "local_files_only"):  # how it was loaded just now, which is nothing to save
        tokenizer.init_kwargs.pop(name, None)
    _settle_roles(tokenizer, source)
    return tokenizer


def _alone(folder: Path) -> PreTrainedTokenizerFast | None:
    """The tokenizer of a ``tokenizer.json`` as it stands, where no other file says of what class and roles it is."""
    if not (folder / "tokenizer.json").is_file():
        return None
    check_rules(folder / "tokenizer.json")
    try:
        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except BaseException as error:  # damaged: the library, which may panic in Rust, says so again
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        return None
    backend.no_padding()
    backend.no_truncation()
    complete = all(backend.token_to_id(token) is not None for token in special_tokens(backend))
    return _with_special_tokens(backend) if complete else None


def _is_camembert(folder: Path) -> bool:
    """Whether the pieces of a folder's SentencePiece model have CamemBERT's ids, which are not XLM-R's."""
    said = []
    for name, key in (("tokenizer_config.json", "tokenizer_class"), ("config.json", "model_type")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            said.append(str(json.loads((folder / name).read_text(encoding="utf-8")).get(key)))
    return any(name.casefold().startswith("camembert") for name in said)


def is_with_tokenizer(source: str | Path) -> bool:
    """Whether a model comes with a tokenizer: no, if it is a folder without the files of one, and no release."""
    home = _home(source)
    return not Path(home).is_dir() or _has_files(Path(home))


def _has_files(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _FILES)


def _home(source: str | Path) -> str | Path:
    """Where a model's tokenizer is: with it, or, of a release that was published without one, elsewhere on the Hub."""
    path, known = Path(source), None
    if not path.exists():
        known = next((release for release in RELEASES.values() if release.hub_id == on_hub(source)[0]), None)
    elif path.is_dir() and not _has_files(path):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            known = released_as(json.loads((path / "config.json").read_text(encoding="utf-8")))
    return source if known is None else known.tokenizer


def _settle_roles(tokenizer: PreTrainedTokenizerFast, source: str | Path) -> None:
    """Gives the tokens around a text both of their names: BERT's are ``cls`` and ``sep``, others' ``bos`` and ``eos``.

    Raises:
        DataError: a special token is missing, or has two purposes.
    """
    for one, other in (("cls_token", "bos_token"), ("sep_token", "eos_token")):
        for name, twin in ((one, other), (other, one)):
            if getattr(tokenizer, name) is None and getattr(tokenizer, twin) is not None:
                setattr(tokenizer, name, getattr(tokenizer, twin))
    names = [f"{role}_token" for role in ROLES]
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

    try:
        if isinstance(huggingface_hub.try_to_load_from_cache(name, "config.json"), str):
            return
        huggingface_hub.HfApi().model_info(name, timeout=10)
    except Exception as error:  # of no name that it could have, or of the connection
        raise DataError(
            f"No tokenizer at {name}: there is no such folder, and the Hub does not give it ({refusal(name, error)})."
        ) from error


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
        like: the tokenizer of a model that is to read with this one too: as for `from_sentencepiece`.

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
    return from_sentencepiece(model.getvalue(), like=like)


def repetitions(sizes: Mapping[str, int], alpha: float) -> dict[str, float]:
    """How often each language's text counts under smoothing with `alpha`; the least repeated language counts once.

    With n the size of a language, that is proportional to n^alpha / n. Empty languages count 0 times.
    """
    weights = {language: size ** (alpha - 1) if size else 0.0 for language, size in sizes.items()}
    least = min((weight for weight in weights.values() if weight), default=1.0)
    return {language: weight / least for language, weight in weights.items()}


def from_sentencepiece(model: bytes, *, like: PreTrainedTokenizerFast | None = None) -> PreTrainedTokenizerFast:
    """Turn a serialised SentencePiece unigram model into a fast tokenizer with XLM-R's layout.

    Args:
        model: content of a ``.model`` file whose first pieces are ``<unk> <s> </s>``.
        like: a tokenizer whose id of the padding and whose special tokens around a text this one takes over.

    Raises:
        DataError: the bytes are no unigram SentencePiece model of that form, too small to have that padding, or have a
            table of characters that can blow a text up.
    """
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(model)
    except Exception as error:  # protobuf's DecodeError has moved between releases
        raise DataError(f"This is not a SentencePiece model: {error}") from error
    first = [piece.piece for piece in proto.pieces[:3]]
    if proto.trainer_spec.model_type != 1 or first != ["<unk>", "<s>", "</s>"]:
        raise DataError(f"Needed: a unigram SentencePiece model starting <unk> <s> </s>; this one starts {first}.")
    pieces = [(token, 0.0) for token in SPECIAL_TOKENS if token not in ("<pad>", "<mask>")]
    pieces += [(piece.piece, piece.score) for piece in proto.pieces[3:]]
    pieces.append(("<mask>", 0.0))
    pad = 1 if like is None else like.pad_token_id
    if pad > len(pieces):
        raise DataError(f"The padding of the model is piece {pad}, this vocabulary has only {len(pieces)} others.")
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
    return _with_special_tokens(backend)


def _template(like: PreTrainedTokenizerFast, texts: int) -> str:
    """What a tokenizer puts around one text or two, in the tokens of this layout, each with its type.

    Raises:
        DataError: it puts other tokens there than those that begin and end a text.
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


def from_json(text: str, rows: int) -> PreTrainedTokenizerFast:
    """The tokenizer that a ``tokenizer.json`` for so many word embeddings holds; special tokens as XLM-R's or BERT's.

    Raises:
        DataError: the text is no such file, or a special token is missing.
    """
    if wrong := problem(text, rows):
        raise DataError(f"The tokenizer.json does not do: {wrong}.")
    return _with_special_tokens(Tokenizer.from_str(text))


def _with_special_tokens(backend: Tokenizer) -> PreTrainedTokenizerFast:
    begin, pad, end, unknown, mask = special_tokens(backend)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=begin,
        eos_token=end,
        cls_token=begin,
        sep_token=end,
        pad_token=pad,
        unk_token=unknown,
        # The mask stands for a word, so it takes the space before it.
        mask_token=AddedToken(mask, lstrip=True, special=True),
        model_input_names=["input_ids", *([_TYPES] if _tells_types(backend) else []), "attention_mask"],
    )


def _tells_types(backend: Tokenizer) -> bool:
    """Whether the tokens of a pair differ in their types."""
    return any(backend.encode("a", "a").type_ids)


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path, config: XmodConfig) -> None:
    """Save a tokenizer beside the model of that configuration, with the model's length as its own.

    Whatever cuts texts by it, such as transformers' pipelines, then cuts where the model's positions end, and gives the
    model types of tokens only where it has several.
    """
    tokenizer = suited(tokenizer, config)
    tokenizer.model_max_length = positions_of(config)
    tokenizer.save_pretrained(folder)


def suited(tokenizer: PreTrainedTokenizerFast, config: XmodConfig) -> PreTrainedTokenizerFast:
    """The tokenizer as the model of that configuration needs it: without types of tokens where it has only one."""
    if config.type_vocab_size > 1 or _TYPES not in tokenizer.model_input_names:
        return tokenizer
    tokenizer = copy.copy(tokenizer)
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != _TYPES]
    tokenizer.init_kwargs = {**tokenizer.init_kwargs, "model_input_names": tokenizer.model_input_names}  # to be saved
    return tokenizer


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
