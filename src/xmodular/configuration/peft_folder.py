"""A folder that PEFT saved: an adapter (LoRA and the like) that needs the base model it names.

Read without torch and without PEFT. Nothing in it runs: weights come from safetensors only, and settings that make PEFT
import other modules are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from xmodular.errors import ConfigurationError, DataError, in_one_line
from xmodular.files import is_missing_folder
from xmodular.outputs import table_in

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MODEL_CONFIG = "xmod_config.json"  # the configuration of the whole model, with its labels, where xmodular saved it
PEFT_FILES = (SETTINGS, WEIGHTS, MODEL_CONFIG)
PREFIX = "base_model.model."  # of the names of weights
_HEADS = tuple(f"{PREFIX}{name}.weight" for name in ("classifier.out_proj", "classifier", "qa_outputs"))
# The methods that change layers of the model, so that these can be merged. Others put prompts before the input, route
# among several adapters, or need PEFT's own training loop.
METHODS = frozenset(
    {"LORA", "IA3", "LOHA", "LOKR", "OFT", "BOFT", "HRA", "LN_TUNING", "FOURIERFT", "C3A", "MISS", "TRAINABLE_TOKENS"}
)
_CLASSES = {
    "SEQ_CLS": "XmodForSequenceClassification",
    "TOKEN_CLS": "XmodForTokenClassification",
    "QUESTION_ANS": "XmodForQuestionAnswering",
    "CAUSAL_LM": "XmodForCausalLM",
    "FEATURE_EXTRACTION": "XmodModel",
}


def is_peft_folder(source: Any) -> bool:
    """Whether a folder has an adapter of PEFT and no model."""
    folder = Path(source)
    return (folder / SETTINGS).is_file() and not (folder / "config.json").is_file()


def peft_settings(source: str | Path) -> dict[str, Any]:
    """The content of ``adapter_config.json``.

    Raises:
        ConfigurationError: it cannot be read, is of a method that cannot be merged into a model, or names a module to
            import.
    """
    path = Path(source) / SETTINGS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read: {in_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} is not a table of names and values.")
    if (method := content.get("peft_type")) not in METHODS:
        raise ConfigurationError(
            f"{source} is an adapter of PEFT with peft_type {method!r:.60}. Only methods that change layers can be "
            f"used here: {', '.join(sorted(METHODS))}."
        )
    if content.get("megatron_config") is not None:
        raise ConfigurationError(f"{path} has a megatron_config, which makes PEFT import another module: remove it.")
    return content


def base_of(source: str | Path) -> str:
    """The folder or the name on the Hub of the model that an adapter belongs to.

    Raises:
        ConfigurationError: the adapter does not name it, or it is missing, or is an adapter itself.
    """
    settings = peft_settings(source)
    base, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    where = f"{source} is an adapter of PEFT"
    if not isinstance(base, str) or not base:
        raise ConfigurationError(f"{where} that names no base model: write it in {SETTINGS}, base_model_name_or_path.")
    folder = Path(base)
    if is_missing_folder(base) or (not folder.exists() and len(folder.parts) == 1):
        raise ConfigurationError(
            f"{where} for the model {base}, and there is no such folder here. Put the model there, or write its place "
            f"in {SETTINGS}, base_model_name_or_path."
        )
    if folder.is_dir() and is_peft_folder(folder):
        raise ConfigurationError(f"{where} for {base}, which is an adapter itself: merge that one and save it first.")
    return f"{base}@{revision}" if isinstance(revision, str) and revision and not folder.exists() else base


def peft_config_content(source: str | Path, base: Mapping[str, Any]) -> dict[str, Any]:
    """The ``config.json`` that a model with an adapter merged into it would have.

    Args:
        source: the adapter's folder.
        base: the ``config.json`` of its base.

    Raises:
        ConfigurationError, DataError: the folder cannot be read.
    """
    if written := table_in(Path(source) / MODEL_CONFIG):
        return written
    settings, content = peft_settings(source), dict(base)
    mapping = settings.get("auto_mapping")
    named = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    if (architecture := _CLASSES.get(str(settings.get("task_type")), named)) is not None:
        content["architectures"] = [str(architecture)]
    rows = _head_rows(source)
    if rows is not None and rows != len(content.get("id2label") or {0: "", 1: ""}):
        content["id2label"] = {str(index): f"LABEL_{index}" for index in range(rows)}
        content["label2id"] = {f"LABEL_{index}": index for index in range(rows)}
    return content


def _head_rows(source: str | Path) -> int | None:
    """The number of labels of the head that was saved with an adapter; None without one."""
    path = Path(source) / WEIGHTS
    if not path.is_file():
        other = next((each.name for each in Path(source).glob("adapter_model.*")), None)
        raise DataError(
            f"{source} has no {WEIGHTS}"
            + (f"; {other} could run code, so it is not read: save it with safe_serialization=True." if other else ".")
        )
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            head = next((name for name in _HEADS if name in names), None)
            return None if head is None else int(file.get_slice(head).get_shape()[0])
    except (SafetensorError, OSError, IndexError) as error:
        raise DataError(f"{path} is damaged or not a safetensors file: {in_one_line(error)}") from error
