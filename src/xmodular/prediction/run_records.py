"""What determines the output of `predict` and `embed`: a run is only continued if all of it is the same."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from xmodular.addresses import address
from xmodular.configuration.peft_folder import PEFT_FILES, base_of, is_peft_folder
from xmodular.identification import source_of
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import EmbedOptions, RowsOptions, as_record
from xmodular.prediction.parts import file_fingerprint
from xmodular.prediction.predictor import Predictor
from xmodular.rows import parquet_files
from xmodular.rows.opening import reaching
from xmodular.tasks import hash_of

_MODEL_FILES = (
    *("*.safetensors", "*.bin", "*.onnx", "*.onnx.data", "config.json", *PEFT_FILES),
    *("tokenizer*.json", "sentencepiece.bpe.model", "vocab.*", "merges.txt"),
)
# Options that may change when a run is resumed: finished rows do not depend on them.
_FREE = (
    *("output", "overwrite", "skip_bad_rows", "resident_languages"),
    *("engine", "workers", "worker_threads", "worker_gpus"),
)
_LATER = ("identify_languages",)  # options that older runs did not record: noted only if they are given


def record_of_run(options: RowsOptions, given: XmodPreTrainedModel | None, predictor: Predictor) -> dict[str, Any]:
    """Everything that determines the output: a run is only resumed if all of it is the same."""
    record = record_of_rows(options, getattr(predictor.model.config, "_commit_hash", None), given)
    if isinstance(options, EmbedOptions):  # what the model records, or the files of sentence-transformers next to it
        record["vector_settings"] = asdict(predictor.model.settings)
    if (path := Path(options.input)).is_file():
        record["input_file"] = file_fingerprint(path)
    elif files := parquet_files(path):
        record["input_files"] = {each.name: file_fingerprint(each) for each in files}
    elif address(options.input):
        with reaching(options.input):
            record["input_file"] = file_fingerprint(options.input)
    return record


def record_of_rows(
    options: RowsOptions, commit: str | None, given: XmodPreTrainedModel | None = None
) -> dict[str, Any]:
    """Everything that determines the predictions for a row."""
    record = {
        name: value for name, value in as_record(options).items() if name not in _FREE and (value or name not in _LATER)
    }
    record["commit"] = commit
    if (source := source_of(options.identify)) is not None:
        record["identifier"] = source if isinstance(source, str) else file_fingerprint(source)
    model = None if given is not None else options.model
    base = base_of(model) if model is not None and is_peft_folder(model) else None
    for name, source in (("model", model), ("base", base), ("tokenizer", options.tokenizer)):
        if source is not None and Path(source).is_dir():
            files = sorted({path for pattern in _MODEL_FILES for path in Path(source).glob(pattern)})
            record[f"{name}_files"] = {path.name: file_fingerprint(path) for path in files}
    if given is not None:
        record["weights"] = _hash(given)
    record["version"] = version("xmodular")
    return record


def _hash(model: XmodPreTrainedModel) -> str:
    """For a model that is not a file: its configuration and weights."""
    settings = model.config.to_json_string(use_diff=False) + hash_of(model)
    return hashlib.sha256(settings.encode()).hexdigest()
