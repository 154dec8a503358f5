"""The model that a pack is saved from or installed in: find it, fingerprint it, and save it again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from xmodular.configuration import XmodConfig
from xmodular.configuration.peft_folder import PEFT_FILES, is_peft_folder
from xmodular.console import console, quiet_transformers
from xmodular.errors import ConfigurationError, DataError, InputError
from xmodular.files import folder_beside, write_json
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.peft_layers import has_peft, in_language_adapters
from xmodular.options import PackInstallOptions, PackRemoveOptions
from xmodular.outputs import check_apart, check_model_folder, held, is_weights, own_tokenizers, table_in
from xmodular.pack_verbs.replacing import replaced_in
from xmodular.saved_models import home_of, set_home
from xmodular.vocabulary import fingerprint, load_tokenizer, positions_of, save_tokenizer

_TOKENIZER = "tokenizer_config.json"
_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".ckpt"}
# Larger files next to a model do not describe it.
_SMALL = 64 << 20
_ONE_FILE = 1 << 62


def tokenizer_hash(model: XmodPreTrainedModel) -> str | None:
    """The hash of a model's tokenizer; None, with a message, if there is none."""
    where = home_of(model)
    if where is None:
        return None
    try:
        return fingerprint(load_tokenizer(where))
    except DataError:
        console.print(f"There is no tokenizer with {where}, so tokenizers are not compared.")
        return None


@contextmanager
def target_of(
    options: PackInstallOptions | PackRemoveOptions, given: XmodPreTrainedModel | None, *sources: object
) -> Iterator[Path | None]:
    """Yield the folder for a changed model, locked until it is written; None for an object that is not saved.

    Args:
        options: options of the verb.
        given: the model, if it is an object.
        sources: other paths that are read.

    Raises:
        ConfigurationError: it is in use, contains a source, or is unknown.
    """
    target = options.output_dir
    if target is None and given is None and is_peft_folder(options.model):
        raise ConfigurationError(
            f"{options.model} is an adapter of PEFT, which has no languages of its own: --output-dir says where the "
            "changed model, with the adapter merged into it, goes."
        )
    if given is not None and has_peft(given) and (target is not None or in_language_adapters(given)):
        raise InputError(
            "The model has layers of PEFT "
            + ("in the adapters of languages" if target is None else "and is to be saved")
            + ": merge them first, with merge_and_unload() of the PEFT model."
        )
    if target is None and given is None:
        target = Path(options.model)
        if not target.exists():
            raise ConfigurationError(
                f"There is no folder {options.model}. If it is a model on the Hub, --output-dir says where the changed "
                "model goes."
            )
    with nullcontext() if target is None else held(target):
        if target is not None and not in_place(options.model, target):
            _check_target(options, target, *sources)
        elif target is not None:
            check_apart(target, sources, names=lambda name: is_weights(name) or name == "config.json")
        yield target


def _check_target(options: PackInstallOptions | PackRemoveOptions, target: Path, *sources: object) -> None:
    check_model_folder(target, overwrite=options.overwrite, sources=[options.model, *sources])


def in_place(source: str, target: Path) -> bool:
    return Path(source).exists() and target.exists() and Path(source).samefile(target)


def save_changed(
    model: XmodPreTrainedModel,
    options: PackInstallOptions | PackRemoveOptions,
    target: Path,
    *sources: object,
) -> None:
    """Save a changed model to its own folder, whose other files stay, or to a new one, to which they are copied.

    Its weights are one file, so that they are replaced atomically. Arguments as for `target_of`.
    """
    console.print(f"Writing the model to {target}")
    source = options.model
    with quiet_transformers():
        if in_place(source, target):
            with replaced_in(target) as beside:
                model.save_pretrained(beside, max_shard_size=_ONE_FILE)
                _tell_length(target, beside, model.config)
        else:
            with folder_beside(target, partial(_check_target, options, target, *sources)) as beside:
                model.save_pretrained(beside, max_shard_size=_ONE_FILE)
                _bring_along(source, beside, model.config)
                _tell_length(beside, beside, model.config)
    set_home(model, target)


def _bring_along(source: str, target: Path, config: XmodConfig) -> None:
    """Copy the other files of a model: tokenizer, metrics, options; for a model on the Hub, the tokenizer."""
    if not Path(source).is_dir():
        try:
            save_tokenizer(load_tokenizer(source), target, config)
        except DataError:
            return
    else:
        owned = own_tokenizers(Path(source))  # written with the model, as far as its languages are there
        for path in Path(source).iterdir():
            own = path.name in owned
            small = path.is_file() and path.stat().st_size <= _SMALL and path.suffix not in _WEIGHT_SUFFIXES
            own = own or path.name in PEFT_FILES  # merged into the weights
            if small and not own and not path.name.startswith(".") and not (target / path.name).exists():
                shutil.copy2(path, target / path.name)


def _tell_length(folder: Path, target: Path, config: XmodConfig) -> None:
    """Rewrite a folder's ``tokenizer_config.json`` if it allows longer texts than the model reads.

    Tokenizers that were saved without a length allow any.
    """
    content, positions = table_in(folder / _TOKENIZER), positions_of(config)
    if content and not 0 < (content.get("model_max_length") or 0) <= positions:  # else it does not change
        write_json(target / _TOKENIZER, {**content, "model_max_length": positions})
