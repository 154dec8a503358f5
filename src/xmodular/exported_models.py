"""Run a model that was exported, in the place of the model."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from transformers.utils import ModelOutput

from xmodular.configuration import XmodConfig, read_config
from xmodular.errors import ConfigurationError, DataError, InputError, in_one_line
from xmodular.modeling import XmodPreTrainedModel
from xmodular.modeling.routing import check_range

ONNX, TORCH = "model.onnx", "model.pt2"  # the file with the graph, in its folder
REPORT = "report.json"  # beside it
LANGUAGES = "xmodular.languages"  # in the metadata of the graph: the languages by id, with commas
EXTRA = "pip install 'xmodular[onnx]'"

_RUN = 24  # what starting a run of the graph costs, in tokens of padding


def extra_package(name: str) -> Any:
    """A module of the extra ``onnx``.

    Raises:
        ConfigurationError: it is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(f"ONNX needs the package {name.split('.')[0]}: {EXTRA}") from error


def is_exported(source: str | Path) -> bool:
    """Whether a folder has a graph in the place of weights."""
    return any((Path(source) / name).is_file() for name in (ONNX, TORCH))


def load_exported(source: str | Path) -> ExportedModel:
    """The model of an exported folder, which runs on the CPU.

    Raises:
        ConfigurationError: onnxruntime is not installed, or the graph is of another format.
        DataError: the graph cannot be read, or does not fit the folder's config.json.
    """
    path = Path(source) / ONNX
    if not path.is_file():
        raise ConfigurationError(
            f"{source} has a program of torch ({TORCH}), whose file can contain code, so it is not loaded here. If you "
            f'trust it: xmodular.exported_models.with_program("{source}", torch.export.load("{Path(source) / TORCH}")) '
            "is a model for Predictor; or export with --format onnx."
        )
    config = read_config(source)
    architecture = (config.architectures or [""])[0]
    runtime = extra_package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no other base
        raise DataError(f"{path} cannot be loaded: {in_one_line(error)}") from error
    stored = session.get_modelmeta().custom_metadata_map.get(LANGUAGES, "").split(",")
    if stored != list(config.languages):
        raise DataError(
            f"{path} has the languages {', '.join(stored)}, config.json {', '.join(config.languages)}: they do not "
            "match."
        )
    return _complete(ExportedModel(config, session, architecture, path), source)


def with_program(source: str | Path, program: ExportedProgram) -> ExportedModel:
    """The model of a folder that was exported as a program of torch, for `Predictor` and the verbs in Python.

    Args:
        source: the folder.
        program: its program, which `torch.export.load` reads. That runs what a file says, so it is left to who trusts
            the file.

    Raises:
        ConfigurationError: the folder has no program.
        DataError: its report does not fit the program.
    """
    path = Path(source) / TORCH
    if not path.is_file():
        raise ConfigurationError(f"{source} has no program of torch ({TORCH}).")
    config = read_config(source)
    try:
        report = json.loads((path.parent / REPORT).read_text(encoding="utf-8"))
        session = _Program(program, report["inputs"], report["outputs"])
        if tuple(report["languages"]) != tuple(config.languages):
            raise ValueError(f"it has the languages {', '.join(report['languages'])}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path.parent / REPORT} does not fit the program: {in_one_line(error)}") from error
    return _complete(ExportedModel(config, session, (config.architectures or [""])[0], path), source)


class _Program:
    """A program of torch, as a session of onnxruntime is used here.

    Args:
        program: the program.
        inputs, outputs: their names.

    Raises:
        ValueError: it has others.
    """

    def __init__(self, program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._run, self._inputs, self._outputs = program.module(), tuple(inputs), tuple(outputs)
        signature = program.graph_signature
        values = {node.name: node.meta.get("val") for node in program.graph.nodes}
        shapes = {name: [*map(str, value.shape)] for name, value in values.items() if isinstance(value, Tensor)}
        self._given = [SimpleNamespace(name=name, shape=shapes[name]) for name in map(str, signature.user_inputs)]
        made = [shapes[str(name)] for name in signature.user_outputs]
        if [each.name for each in self._given] != list(inputs) or len(made) != len(outputs):
            raise ValueError(f"the program has the inputs {', '.join(each.name for each in self._given)}")
        self._made = [SimpleNamespace(name=name, shape=shape) for name, shape in zip(outputs, made, strict=True)]

    def get_inputs(self) -> list[SimpleNamespace]:
        """Names and shapes."""
        return self._given

    def get_outputs(self) -> list[SimpleNamespace]:
        """Names and shapes."""
        return self._made

    @torch.inference_mode()
    def run(self, _: None, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs for a batch."""
        found = self._run(**{name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in self._inputs})
        return [tensor.numpy() for tensor in found]


def _complete(model: ExportedModel, source: str | Path) -> ExportedModel:
    """A model with the tokenizers of single languages, and where it is."""
    config, path = model.config, model.path
    for code in config.vocabularies:
        own = path.with_name(f"tokenizer.{code}.json")
        if own.is_file():
            model.tokenizers[code] = own.read_text(encoding="utf-8")
    config.name_or_path = str(source)
    return model.eval()


class ExportedModel(XmodPreTrainedModel):
    """A model whose forward is a graph, run by onnxruntime or torch. It has no weights of its own, and cannot be saved.

    Args:
        config: of the exported model; its languages are those of the graph.
        session: an ``onnxruntime.InferenceSession`` of the graph, or what has the same methods.
        architecture: the name of the class that was exported.
        path: the graph's file.
    """

    def __init__(self, config: XmodConfig, session: Any, architecture: str, path: Path) -> None:
        super().__init__(config)
        self.architecture = architecture
        self.path = path
        self._session = session
        self._inputs = [each.name for each in session.get_inputs()]
        length = next((each.shape[-1] for each in session.get_inputs() if each.name == "input_ids"), None)
        self._outputs = {each.name: each.shape[1:2] == [length] for each in session.get_outputs()}  # one per token?
        self._tokenizers: dict[str, str] = {}

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """That of the outputs."""
        return torch.float32

    @property
    def tokenizers(self) -> dict[str, str]:
        """The ``tokenizer.json`` of each language that has a vocabulary of its own."""
        return self._tokenizers

    def save_pretrained(self, *args: Any, **more: Any) -> NoReturn:
        """Raises ConfigurationError: the folder can be copied."""
        raise ConfigurationError(f"An exported model cannot be saved: copy its folder, {self.path.parent}.")

    def forward(self, **batch: Tensor) -> ModelOutput:
        """Run the graph over a batch, cut by length: short rows are not padded to the longest.

        Args:
            batch: ``input_ids`` *(B, S)*, or *(B, C, S)* of multiple choice, int64, on the CPU; ``attention_mask``
                and ``token_type_ids`` alike; ``lang_ids`` *(B,)*, which a graph of one language ignores.

        Returns:
            The outputs of the exported model by name, float32; zeros at padding.

        Raises:
            InputError: the shapes or values do not suit the graph.
            LanguageError: a language id is out of range.
        """
        ids = batch["input_ids"]
        given = complete(batch, self._inputs)
        if (lang_ids := batch.get("lang_ids")) is not None and lang_ids.numel():
            check_range(int(lang_ids.min()), int(lang_ids.max()), self.languages)
        arrays = {name: tensor.numpy() for name, tensor in given.items()}
        found: dict[str, np.ndarray] = {}
        for rows, length in cut(_lengths(given["attention_mask"])):
            part = {name: each[rows] if each.ndim == 1 else each[rows][..., :length] for name, each in arrays.items()}
            for (name, per_token), values in zip(self._outputs.items(), self._run(part), strict=True):
                if name not in found:
                    rest = (ids.shape[-1], *values.shape[2:]) if per_token else values.shape[1:]
                    found[name] = np.zeros((len(ids), *rest), dtype=values.dtype)
                if per_token:
                    found[name][rows, :length] = values
                else:
                    found[name][rows] = values
        return ModelOutput({name: torch.from_numpy(values) for name, values in found.items()})

    def _run(self, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        try:
            answer: list[np.ndarray] = self._session.run(None, dict(arrays))
        except Exception as error:  # its classes have no other base
            raise InputError(f"{self.path} cannot read this batch: {in_one_line(error)}") from error
        return answer


def complete(batch: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """The inputs of a graph: those of a batch, with a mask of ones and types of zeros where it has none.

    Raises:
        InputError: another input is missing.
    """
    ids = batch["input_ids"]
    usual = {"attention_mask": torch.ones_like, "token_type_ids": torch.zeros_like}
    if missing := [name for name in names if name not in batch and name not in usual]:
        raise InputError(f"The graph needs the input {missing[0]}; the batch has {', '.join(batch)}.")
    return {name: batch[name].long() if name in batch else usual[name](ids) for name in names}


def _lengths(mask: Tensor) -> list[int]:
    """The place behind the last real token of each row, of all its choices; at least 1."""
    places = torch.arange(1, mask.shape[-1] + 1)
    return [max(1, length) for length in ((mask != 0) * places).flatten(1).amax(1).tolist()]


def cut(lengths: Sequence[int], run: int = _RUN) -> list[tuple[list[int], int]]:
    """Rows by length, cut into runs such that padding and the number of runs together cost least.

    The cost of a run is `run` tokens more than its rows times its longest. The best cuts are found by dynamic
    programming over the distinct lengths.

    Args:
        lengths: tokens of each row.
        run: what one more run costs, in tokens.

    Returns:
        The rows of each run, and the length that they are padded to.
    """
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    following = [*(lengths[row] for row in order[1:]), None]
    ends = [place + 1 for place, row in enumerate(order) if lengths[row] != following[place]]
    least, before = {0: 0}, {0: 0}
    for end in ends:
        longest = lengths[order[end - 1]]
        least[end], before[end] = min((least[start] + longest * (end - start) + run, start) for start in least)
    runs: list[tuple[list[int], int]] = []
    end = len(order)
    while end:
        runs.append((order[before[end] : end], lengths[order[end - 1]]))
        end = before[end]
    return runs
