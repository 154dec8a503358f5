"""Load a tokenizer of any kind that has a fast version: from a folder, a file or the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from xmodular.catalogue import RELEASES, released_as
from xmodular.errors import DataError, in_one_line, speaking
from xmodular.files import is_missing_folder
from xmodular.hub import hub_source, on_hub, refusal
from xmodular.outputs import table_in
from xmodular.pieces import ROLES
from xmodular.tokenizer_rules import running_problem, special_tokens
from xmodular.vocabulary.fast_tokenizers import with_special_tokens
from xmodular.vocabulary.unigram import from_sentencepiece
from xmodular.vocabulary.vetting import check_rules, checked

# The last two are for WordPiece and byte-level BPE, which transformers converts to a fast version.
_FILES = ("tokenizer.json", "sentencepiece.bpe.model", "vocab.txt", "vocab.json")


@speaking
def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer.

    Args:
        source: a folder with ``tokenizer.json`` or ``sentencepiece.bpe.model``, such a ``.model`` file itself, or the
            name of a repository on the Hub. A released X-MOD without a tokenizer gets the one it was trained with.

    No code that comes with it is run, and there are no prompts.

    Raises:
        DataError: there is no tokenizer, it lacks one of the special tokens, needs its own code, or has rules
            that can make a text explode in length.
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
        # The files name the class; released checkpoints name XLM-R's, which knows its special tokens.
        tokenizer: Any = AutoTokenizer.from_pretrained(name, config=config, trust_remote_code=False, **where)
    except Exception as error:  # the libraries have no special error for damaged files
        of = "" if asked == source else f", the tokenizer of {asked}"
        said = in_one_line(error) if path.exists() else refusal(source, error)
        raise DataError(f"No tokenizer at {source}{of}: {said.rstrip('.')}.") from error
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise DataError(f"The tokenizer at {source} ({type(tokenizer).__name__}) has no fast version (tokenizer.json).")
    if wrong := running_problem(tokenizer.backend_tokenizer):
        raise DataError(f"The tokenizer at {source} is refused: {wrong}.")
    for name in ("is_local", "local_files_only"):  # how it was loaded, which must not be saved
        tokenizer.init_kwargs.pop(name, None)
    _settle_roles(tokenizer, source)
    return tokenizer


def _alone(folder: Path) -> PreTrainedTokenizerFast | None:
    """The tokenizer of a ``tokenizer.json`` alone, if no other file names its class and the roles of its tokens."""
    if not (folder / "tokenizer.json").is_file():
        return None
    check_rules(folder / "tokenizer.json")
    try:
        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except BaseException as error:  # damaged: the library, which may panic in Rust, reports it later
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        return None
    backend.no_padding()
    backend.no_truncation()
    complete = all(backend.token_to_id(token) is not None for token in special_tokens(backend))
    return with_special_tokens(backend) if complete else None


def _is_camembert(folder: Path) -> bool:
    """Whether the pieces of a folder's SentencePiece model have CamemBERT's ids, which are not XLM-R's."""
    keys = {"tokenizer_config.json": "tokenizer_class", "config.json": "model_type"}
    said = (str(table_in(folder / name).get(key)) for name, key in keys.items())
    return any(name.casefold().startswith("camembert") for name in said)


def is_with_tokenizer(source: str | Path) -> bool:
    """Whether a model comes with a tokenizer: not if it is a folder without tokenizer files and not a release."""
    home = _home(source)
    return not Path(home).is_dir() or _has_files(Path(home))


def _has_files(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _FILES)


def _home(source: str | Path) -> str | Path:
    """The location of a model's tokenizer: with it or, for a release without one, elsewhere on the Hub."""
    path, known = Path(source), None
    if not path.exists():
        known = next((release for release in RELEASES.values() if release.hub_id == on_hub(source)[0]), None)
    elif path.is_dir() and not _has_files(path):
        known = released_as(table_in(path / "config.json"))
    return source if known is None else known.tokenizer


def _settle_roles(tokenizer: PreTrainedTokenizerFast, source: str | Path) -> None:
    """Give the tokens around a text both of their names: BERT's ``cls`` and ``sep``, and the usual ``bos`` and ``eos``.

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
    """Ask the Hub once for a name of one word: old repositories have such names, but most are misspelt folders.

    Loading would ask again and again, for most of a minute without a network.

    Raises:
        DataError: the Hub does not have it, or cannot be asked, and it was not fetched before.
    """
    import huggingface_hub

    try:
        if isinstance(huggingface_hub.try_to_load_from_cache(name, "config.json"), str):
            return
        huggingface_hub.HfApi().model_info(name, timeout=10)
    except Exception as error:  # an impossible name, or no connection
        raise DataError(
            f"No tokenizer at {name}: there is no such folder, and the Hub cannot provide it ({refusal(name, error)})."
        ) from error
