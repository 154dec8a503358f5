"""Checksums of everything a run reads, by name: a run only continues with the same inputs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xmodular.configuration import read_config
from xmodular.configuration.peft_folder import PEFT_FILES, base_of, is_peft_folder
from xmodular.console import progress
from xmodular.modeling import XmodPreTrainedModel
from xmodular.tasks import hash_of
from xmodular.text import HubText
from xmodular.text.raw_lines import digest
from xmodular.weights import weight_files

WEIGHTS = "the model object's weights"  # their name among the facts of a run
TOKENIZER = "the tokenizer"
# The files of a model's folder that matter in addition to the weights.
_DECISIVE = re.compile(
    r"config\.json|tokenizer(_config|\.[^.]+)?\.json|special_tokens_map\.json|added_tokens\.json"
    r"|sentencepiece\.bpe\.model|vocab\.(txt|json)|merges\.txt"
)


def texts(train: Mapping[str, Iterable[Path | HubText]], dev: Mapping[str, Iterable[Path | HubText]]) -> dict[str, str]:
    """A checksum of each language's training text, and of its validation text if given.

    Files are read once, for this and for finding their cached blocks.

    Args:
        train, dev: files, or parts of data sets, by language.

    Raises:
        DataError: a file cannot be read.
    """
    named = {**{code: list(sources) for code, sources in train.items()}}
    named |= {f"validation text of {code}": list(sources) for code, sources in dev.items()}
    with progress("Checksums of the text, bytes", _size(each for sources in named.values() for each in sources)) as on:
        return {
            name: _hash([each.content() if isinstance(each, HubText) else digest(each, on) for each in sources])
            for name, sources in named.items()
        }


def base(source: str, given: XmodPreTrainedModel | None) -> dict[str, str]:
    """Checksums of the files of the model that a run starts from; for an object, of its weights and its configuration.

    Args:
        source: folder or name on the Hub, which is identified by its commit.
        given: the object.

    Raises:
        DataError: a file cannot be read.
    """
    if given is not None:
        fields = {name: value for name, value in given.config.to_dict().items() if not name.startswith("_")}
        return {WEIGHTS: hash_of(given), "the model object's configuration": _hash([fields])}
    folder = Path(source)
    if not folder.is_dir():
        commit = getattr(read_config(source), "_commit_hash", None)
        return {source: str(commit)}
    more: dict[str, str] = {}
    own = [folder / name for name in PEFT_FILES if (folder / name).is_file()]
    if is_peft_folder(folder):
        more = base(base_of(source), None)
    files = [
        *own,
        *weight_files(folder),
        *(path for path in sorted(folder.iterdir()) if _DECISIVE.fullmatch(path.name)),
    ]
    with progress("Checksums of the base, bytes", _size(files)) as advance:
        return {str(path): digest(path, advance) for path in files} | more


def _size(sources: Iterable[Any]) -> int:
    """Bytes of the files among some sources."""
    return sum(each.stat().st_size for each in sources if isinstance(each, Path) and each.is_file())


def _hash(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content, default=str, sort_keys=True).encode()).hexdigest()
