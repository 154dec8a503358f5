"""The model that a pack comes from or goes into: found, fingerprinted, and saved again where it belongs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from xmodular.configuration import XmodConfig
from xmodular.console import console, quiet_transformers
from xmodular.errors import ConfigurationError, DataError
from xmodular.files import folder_beside, write_json
from xmodular.modeling import XmodPreTrainedModel
from xmodular.sharing.replacing import OWN, replaced_in
from xmodular.vocabulary import fingerprint, load_tokenizer, positions_of, save_tokenizer

_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".ckpt"}
# Larger files beside a model are none of those that describe it.
_SMALL = 64 << 20
_ONE_FILE = 1 << 62


def tokenizer_hash(model: XmodPreTrainedModel) -> str | None:
    """The hash of the tokenizer that lies with a model; None, and a word about it, if there is none."""
    where = model.config._name_or_path
    if not where:
        return None
    try:
        return fingerprint(load_tokenizer(where))
    except DataError:
        console.print(f"There is no tokenizer with {where}, so tokenizers are not compared.")
        return None


def target_of(source: str, output_dir: Path | None, given: XmodPreTrainedModel | None, overwrite: bool) -> Path | None:
    """The folder that a changed model goes to; None if it is an object that stays one.

    Raises:
        ConfigurationError: it is taken, or it is unknown.
    """
    if output_dir is None:
        if given is not None:
            return None
        if not Path(source).exists():
            raise ConfigurationError(
                f"There is no folder {source}. If it is a model on the Hub, --output-dir says where the changed model "
                "goes."
            )
        return Path(source)
    if output_dir.exists() and not in_place(source, output_dir):
        if not output_dir.is_dir():
            raise ConfigurationError(f"{output_dir} is a file; the output needs a folder.")
        if not overwrite:
            raise ConfigurationError(f"{output_dir} is there already. Choose another folder, or --overwrite it.")
        if any(output_dir.iterdir()) and not (output_dir / "config.json").is_file():
            raise ConfigurationError(f"{output_dir} is not replaced: it holds no model, there is no config.json in it.")
    return output_dir


def in_place(source: str, target: Path) -> bool:
    return Path(source).exists() and target.exists() and Path(source).samefile(target)


def save_changed(model: XmodPreTrainedModel, source: str, target: Path) -> None:
    """Save a changed model to its own folder, whose other files stay, or to a new one, where they come along.

    Its weights are one file, so that they change in one moment.
    """
    console.print(f"Writing the model to {target}")
    with quiet_transformers():
        if in_place(source, target):
            with replaced_in(target) as beside:
                model.save_pretrained(beside, max_shard_size=_ONE_FILE)
                _tell_length(target, beside, model.config)
        else:
            with folder_beside(target, overwrite=True) as beside:
                model.save_pretrained(beside, max_shard_size=_ONE_FILE)
                _bring_along(source, beside, model.config)
                _tell_length(beside, beside, model.config)
    model.config._name_or_path = str(target)  # where its tokenizer is found


def _bring_along(source: str, target: Path, config: XmodConfig) -> None:
    """Copy what lies beside a model's weights: tokenizer, metrics, options; of a model on the Hub the tokenizer."""
    if not Path(source).is_dir():
        try:
            save_tokenizer(load_tokenizer(source), target, config)
        except DataError:
            return
    else:
        for path in Path(source).iterdir():
            own = OWN.fullmatch(path.name) is not None  # written with the model, as far as its languages are there
            small = path.is_file() and path.stat().st_size <= _SMALL and path.suffix not in _WEIGHT_SUFFIXES
            if small and not own and not path.name.startswith(".") and not (target / path.name).exists():
                shutil.copy2(path, target / path.name)


def _tell_length(folder: Path, target: Path, config: XmodConfig) -> None:
    """Write a folder's ``tokenizer_config.json`` anew where it allows longer texts than the model reads.

    Tokenizers that were saved without a length allow any.
    """
    name = "tokenizer_config.json"
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # there is none, or none that can be read: it stays as it is
    positions = positions_of(config)
    if isinstance(content, dict) and not 0 < (content.get("model_max_length") or 0) <= positions:
        write_json(target / name, {**content, "model_max_length": positions})
