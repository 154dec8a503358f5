"""A model as a graph: torch's exported program, an ONNX file of it, and the same with 8-bit weights."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from xmodular.errors import ConfigurationError, in_one_line
from xmodular.exported_models import LANGUAGES, extra_package
from xmodular.modeling import XmodForMultipleChoice, XmodForQuestionAnswering, XmodModel, XmodPreTrainedModel
from xmodular.modeling.adapters import without_neutral
from xmodular.vocabulary import positions_of

_OPSET = 20  # the first with GELU as one operator
_LARGE_TABLE = 2**16  # numbers; smaller tables stay as they are
_ONE_FILE = 2**30  # bytes of weights; larger ones lie beside the graph, which protobuf limits to 2 GiB


def graph_inputs(model: XmodPreTrainedModel) -> list[str]:
    """The names of the graph's inputs; `lang_ids` only where there are languages to choose from."""
    names = ["input_ids", "attention_mask"]
    if model.config.type_vocab_size > 1:
        names.append("token_type_ids")
    return [*names, "lang_ids"] if len(model.languages) > 1 else names


def graph_outputs(model: XmodPreTrainedModel) -> list[str]:
    """The names of the graph's outputs, as the model's own output has them."""
    if isinstance(model, XmodForQuestionAnswering):
        return ["start_logits", "end_logits"]
    if isinstance(model, XmodModel):
        return ["last_hidden_state", *(["pooler_output"] if model.pooler is not None else [])]
    return ["logits"]


def capture(model: XmodPreTrainedModel) -> ExportedProgram:
    """The model's forward as a program for any batch, any length and, of several languages, any `lang_ids`.

    Args:
        model: in evaluation mode, in fp32, on the CPU. Its first language is the program's, if it has no other.

    Returns:
        A program with the inputs of `graph_inputs`: *(batch, length)* or, of multiple choice, *(batch, choices,
        length)*, int64, and `lang_ids` *(batch,)*.

    Raises:
        ConfigurationError: torch cannot export this model.
    """
    config = model.config
    example, sizes = _example(model)
    before = config.return_dict, config.use_cache
    config.return_dict = config.use_cache = False
    try:
        with _quiet(), torch.no_grad(), without_neutral(model):
            return torch.export.export(model, (), example, dynamic_shapes=sizes)
    except (RuntimeError, ValueError, NotImplementedError, torch._dynamo.exc.TorchDynamoException) as error:
        raise ConfigurationError(f"torch cannot export this {type(model).__name__}: {in_one_line(error)}") from error
    finally:
        config.return_dict, config.use_cache = before


def _example(model: XmodPreTrainedModel) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inputs of any size, and which of their sizes are free."""
    config = model.config
    longest = positions_of(config)
    shape = [3, 4, min(5, longest)] if isinstance(model, XmodForMultipleChoice) else [3, min(5, longest)]
    names = ("batch", "choices", "length") if len(shape) == 3 else ("batch", "length")
    free = {axis: Dim(name, max=longest) if name == "length" else Dim(name) for axis, name in enumerate(names)}
    example = {name: torch.zeros(shape, dtype=torch.long) for name in graph_inputs(model)}
    example["input_ids"] += torch.arange(shape[-1]).clamp(max=config.vocab_size - 1)
    example["attention_mask"] += 1
    sizes: dict[str, Any] = dict.fromkeys(example, free)
    if "lang_ids" in example:
        example["lang_ids"] = torch.arange(shape[0]) % len(model.languages)
        sizes["lang_ids"] = {0: free[0]}
    return example, sizes


def write_torch(program: ExportedProgram, path: Path) -> None:
    """Write a program as torch saves it, ``.pt2``."""
    with _quiet():
        torch.export.save(program, path)


def write_onnx(program: ExportedProgram, model: XmodPreTrainedModel, path: Path) -> None:
    """Write a program as ONNX, with large weights in ``<path>.data`` beside it.

    Args:
        program: from `capture`.
        model: the model that it is of.
        path: the file to write.

    Raises:
        ConfigurationError: the extra ``onnx`` is missing, or an operator of the model has no form in ONNX.
    """
    for name in ("onnx", "onnxscript"):
        extra_package(name)
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    try:
        with _quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                dynamic_shapes=_example(model)[1],
                input_names=graph_inputs(model),
                output_names=graph_outputs(model),
                opset_version=_OPSET,
                verbose=False,
            )
            assert made is not None
            made.model.metadata_props[LANGUAGES] = ",".join(model.languages)
            made.save(str(path), external_data=size > _ONE_FILE)
    except torch.onnx.errors.OnnxExporterError as error:
        raise ConfigurationError(f"The model has no form in ONNX: {in_one_line(error)}") from error


def write_int8(source: Path, path: Path) -> None:
    """Write an ONNX file with 8-bit weights: of linear layers, whose inputs are quantised as they come, and embeddings.

    A linear layer has a scale for each output, a table of embeddings one for each row. The weights of adapters that
    `lang_ids` choose among stay in fp32.

    Args:
        source: the file in fp32.
        path: the file to write.
    """
    onnx = extra_package("onnx")
    quantization = extra_package("onnxruntime.quantization")
    with _quiet():
        quantization.quantize_dynamic(
            source,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            use_external_data_format=Path(f"{source}.data").exists(),
        )
    made = onnx.load(path)
    _quantise_tables(made.graph)
    Path(f"{path}.data").unlink(missing_ok=True)
    large = made.ByteSize() > _ONE_FILE
    onnx.save(made, path, save_as_external_data=large, location=f"{path.name}.data" if large else None)


def _quantise_tables(graph: Any) -> None:
    """Store tables that rows are looked up in as 8-bit integers; the largest magnitude of a row gives its scale."""
    onnx = extra_package("onnx")
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    tables = [
        each
        for each in graph.initializer
        if len(each.dims) == 2
        and each.dims[0] * each.dims[1] >= _LARGE_TABLE
        and each.data_type == onnx.TensorProto.FLOAT
        and [node.op_type for node in users.get(each.name, [])] == ["Gather"]
    ]
    for table in tables:
        (node,) = users[table.name]
        values = onnx.numpy_helper.to_array(table)
        scale = np.maximum(np.abs(values).max(1, keepdims=True), np.finfo(np.float32).tiny) / 127
        rows = np.rint(values / scale).astype(np.int8)
        name, ids, output = table.name, node.input[1], node.output[0]
        graph.initializer.remove(table)
        graph.initializer.append(onnx.numpy_helper.from_array(rows, f"{name}.int8"))
        graph.initializer.append(onnx.numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"))
        place = list(graph.node).index(node)
        graph.node.remove(node)
        for offset, made in enumerate(
            (
                onnx.helper.make_node("Gather", [f"{name}.int8", ids], [f"{output}.int8"], axis=0),
                onnx.helper.make_node("Cast", [f"{output}.int8"], [f"{output}.rows"], to=onnx.TensorProto.FLOAT),
                onnx.helper.make_node("Gather", [f"{name}.scale", ids], [f"{output}.scale"], axis=0),
                onnx.helper.make_node("Mul", [f"{output}.rows", f"{output}.scale"], [output]),
            )
        ):
            graph.node.insert(place + offset, made)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and the log of exporters, which are about their own work."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnx_ir", "onnxscript", "root")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
