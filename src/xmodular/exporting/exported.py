"""The verb `export`: a graph of a model in some of its languages, kept only if it gives what the model gives."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerFast

from xmodular.configuration import read_config
from xmodular.console import console, counted, table
from xmodular.errors import ConfigurationError, DataError
from xmodular.exported_models import ONNX, REPORT, TORCH, complete, extra_package, load_exported
from xmodular.exporting.agreement import Agreement, Runner, compare, latency
from xmodular.exporting.graphs import capture, graph_inputs, graph_outputs, write_int8, write_onnx, write_torch
from xmodular.exporting.sentences import SENTENCES
from xmodular.files import folder_beside, write_json
from xmodular.languages import resolve_all, resolve_or_none
from xmodular.modeling import XmodForCausalLM, XmodForMultipleChoice, XmodForSentenceEmbedding, XmodPreTrainedModel
from xmodular.modeling.peft_layers import merged
from xmodular.options import ExportOptions
from xmodular.outputs import check_apart, check_replaceable, table_in
from xmodular.rows import BadRows, read_rows
from xmodular.saved_models import given_model, load_architecture, tokenizer_of
from xmodular.signatures import verb
from xmodular.tasks import TASKS, Encoding, Example, read_labels, room_of, task_of
from xmodular.tasks.examples import columns_of_training, examples
from xmodular.vocabulary import save_tokenizer

TOLERANCE = 1e-4  # between the outputs of a graph in fp32 and of the model
_FILES = (ONNX, f"{ONNX}.data", TORCH, REPORT, "config.json", "README.md")


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        output: the folder.
        languages: by id.
        file: the name of the graph's file.
        inputs: names of the graph's inputs.
        outputs: names of the graph's outputs.
        bytes: size of the graph with its weights.
        checked: what the check found in each language.
        latency: of the model and the graph for one text, in milliseconds, and their ratio.
    """

    output: Path
    languages: tuple[str, ...]
    file: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    bytes: int
    checked: tuple[Agreement, ...]
    latency: Mapping[str, float]

    def table(self) -> Table:
        """The check by language, under the sizes and times."""
        times = self.latency
        title = (
            f"{self.output}: {self.bytes / 2**20:,.1f} MiB; one text of {times['tokens']:.0f} tokens: graph "
            f"{times['graph']:.1f} ms, model {times['model']:.1f} ms (the graph is {times['ratio']:.2f} times as fast)"
        )
        rows = [
            (
                each.language,
                f"{each.rows:,}{'' if each.given else ' (built-in)'}",
                f"{each.max_difference:.1e}",
                "" if each.label_agreement is None else f"{each.label_agreement:.1%}",
            )
            for each in self.checked
        ]
        return table(title, ("language", "texts", "largest difference", "same label"), rows)


@verb(ExportOptions, "model", "output", objects={"model": given_model}, holds="output")
def export(options: ExportOptions, given: XmodPreTrainedModel | None) -> Exported:
    """Export a model as a graph, for onnxruntime or torch, and check it on text.

    The folder has the graph, the configuration with the labels, the tokenizer, and ``report.json``. `Predictor` and
    `predict` take it for a model if its format is ONNX. It appears only if the check succeeds.

    Args:
        model: a model with or without a task head, as an object, which is not changed, a folder or a name on the Hub.

    Returns:
        What the check found.

    Raises:
        ConfigurationError: a package or a model is missing, the output is in use, or the model cannot be exported.
        DataError: the graph in fp32 differs from the model by more than 1e-4, or `check` has a bad row.
        LanguageError: the model lacks one of the languages.
    """
    check = functools.partial(_check_output, options, given)
    check()
    if options.format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            extra_package(package)
    model = _model(options, given)
    tokenizer = tokenizer_of(model, options.tokenizer, model.languages[0] if model.config.vocabularies else None)
    texts = _texts(options, model, tokenizer)
    console.print(
        f"Exporting an {type(model).__name__} with {counted(len(model.languages), 'language')} as {options.format}; "
        f"output goes to {options.output}"
    )
    with folder_beside(options.output, check) as folder:
        _write_settings(model, tokenizer, folder)
        agreements, graph = _write_graph(options, model, folder, texts)
        file = ONNX if options.format == "onnx" else TORCH
        made = Exported(
            options.output,
            model.languages,
            file,
            tuple(graph_inputs(model)),
            tuple(graph_outputs(model)),
            sum(each.stat().st_size for each in folder.glob(f"{file}*")),
            tuple(agreements),
            latency(model, graph, texts),
        )
        write_json(folder / REPORT, _report(options, model, made))
    console.print(f"Saved {file} in {options.output}")
    return made


def _check_output(options: ExportOptions, given: XmodPreTrainedModel | None) -> None:
    """Refuse a folder that is a source, or has anything that is not part of an exported model."""
    check_apart(options.output, [options.model if given is None else None, options.tokenizer, *options.check])
    check_replaceable(
        options.output,
        "an exported model",
        lambda folder: "inputs" in table_in(folder / REPORT),
        lambda name: name in _FILES or name.startswith(("tokenizer", "special_tokens_map", "added_tokens", "vocab")),
        overwrite=options.overwrite,
    )


def _model(options: ExportOptions, given: XmodPreTrainedModel | None) -> XmodPreTrainedModel:
    """A copy of the model in fp32, on the CPU, with the languages that are asked for."""
    config = read_config(options.model) if given is None else given.config
    codes = resolve_all(options.languages or config.languages, config.languages)
    own = [code for code in codes if code in config.vocabularies]
    if own and len(codes) > 1:
        raise ConfigurationError(
            f"{', '.join(own)} {'has a vocabulary of its own' if len(own) == 1 else 'have their own vocabularies'}: "
            "export each of these alone, and the other languages together, with --languages."
        )
    if given is None:
        names = config.architectures or []
        if len(names) != 1 or config.model_type != "xmod":
            raise ConfigurationError(f"{options.model} does not name a model class in its config.json; it has {names}.")
        model, _ = load_architecture(names[0], options.model, languages=codes)
    else:
        model = merged(given)
        model.keep_languages(codes)
    if isinstance(model, XmodForCausalLM) or model.config.is_decoder:
        raise ConfigurationError(f"{options.model} is a decoder; encoders and their heads can be exported.")
    if isinstance(model, XmodForSentenceEmbedding):
        raise ConfigurationError(
            f"{options.model} makes vectors, and no graph has its pooling and prefix: export its encoder, "
            "xmodular.XmodModel.from_pretrained(...), whose states are the graph's output."
        )
    if model.config._attn_implementation not in ("sdpa", "eager"):
        model.set_attn_implementation("sdpa")
    model.config.default_language = codes[0] if len(codes) == 1 else None
    if model.config.task_language not in codes:
        model.config.task_language = None
    return torch.nn.Module.to(model, "cpu", torch.float32).eval()


def _texts(
    options: ExportOptions, model: XmodPreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> dict[str, tuple[bool, Sequence[Encoding]]]:
    """What each language's adapter reads in the check: the rows given in it, or else the built-in sentences.

    Raises:
        DataError: a row is bad, or none is in a language of the graph.
    """
    room, task = room_of(model), task_of(model) or TASKS["classify"]
    usual, labels, bad = columns_of_training(model.config, task), read_labels(model), BadRows()
    by_language: dict[str, list[Example]] = {code: [] for code in model.languages}
    for source in options.check:
        rows = read_rows(source, bad, knows=lambda name: resolve_or_none(name, model.languages) is not None)
        for example in examples(task, rows, bad, usual=usual, gold=False):
            code = example.language and resolve_or_none(example.language, model.languages)
            for each in [code] if example.language is not None else model.languages:
                if each and len(by_language[each]) < options.check_rows:
                    by_language[each].append(example)
    found = {code: task.encode(tokenizer, rows, labels, room) if rows else [] for code, rows in by_language.items()}
    if options.check and not any(found.values()):
        raise DataError(
            f"{', '.join(options.check)} has no rows in {', '.join(model.languages)}: give rows in one of them."
        )
    sample = _sample(model, tokenizer, room.max_length)
    return {code: (bool(own), own or sample) for code, own in found.items()}


def _sample(model: XmodPreTrainedModel, tokenizer: PreTrainedTokenizerFast, longest: int) -> list[Encoding]:
    """The built-in sentences; as choices, each with the next."""
    ids = [tuple(tokenizer(text, truncation=True, max_length=longest)["input_ids"]) for text in SENTENCES]
    choices = isinstance(model, XmodForMultipleChoice)
    pairs = [(one, other) if choices else (one,) for one, other in zip(ids, [*ids[1:], ids[0]], strict=True)]
    return [Encoding(number, sequences) for number, sequences in enumerate(pairs)]


def _write_settings(model: XmodPreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write what a graph does not say: the configuration with the labels, and the tokenizer."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    if model.config.vocabularies:
        for code, text in model.tokenizers.items():
            (folder / f"tokenizer.{code}.json").write_text(text, encoding="utf-8")
    else:
        save_tokenizer(tokenizer, folder, config)


def _write_graph(
    options: ExportOptions,
    model: XmodPreTrainedModel,
    folder: Path,
    texts: Mapping[str, tuple[bool, Sequence[Encoding]]],
) -> tuple[list[Agreement], Runner]:
    """Write the graph and check it; what is in fp32 has to give what the model gives.

    Raises:
        DataError: it does not.
    """
    with console.status(Text("Recording the graph")):
        program = capture(model)
    graph: Runner
    if options.format == "torch":
        with console.status(Text("Writing the program")):
            write_torch(program, folder / TORCH)
        graph = _program(torch.export.load(folder / TORCH).module(), graph_inputs(model), graph_outputs(model))
    else:
        with console.status(Text("Writing the graph as ONNX")):
            write_onnx(program, model, folder / ONNX)
        graph = load_exported(folder)
    del program
    agreements = compare(model, graph, graph_outputs(model), texts)
    for each in agreements:
        if not each.max_difference <= TOLERANCE:
            raise DataError(
                f"In {each.language}, outputs of the graph differ from the model's by {each.max_difference:.2g}, more "
                f"than {TOLERANCE:g}: it is not kept."
            )
    if options.int8:
        with console.status(Text("Quantising")):
            graph = _quantised(folder)
        agreements = compare(model, graph, graph_outputs(model), texts)
    return agreements, graph


def _quantised(folder: Path) -> Runner:
    """Put the graph with 8-bit weights in the place of the one in fp32."""
    full = folder / "fp32"
    full.mkdir()
    for path in folder.glob(f"{ONNX}*"):
        path.rename(full / path.name)
    write_int8(full / ONNX, folder / ONNX)
    for path in full.iterdir():
        path.unlink()
    full.rmdir()
    return load_exported(folder)


def _program(run: Callable[..., Any], inputs: Sequence[str], outputs: Sequence[str]) -> Runner:
    """A program of torch as a function of a batch."""
    return lambda **batch: dict(zip(outputs, run(**complete(batch, inputs)), strict=True))


def _report(options: ExportOptions, model: XmodPreTrainedModel, made: Exported) -> dict[str, Any]:
    """The content of report.json."""
    packages = ["torch", *(["onnx", "onnxruntime"] if options.format == "onnx" else [])]
    return {
        "model": options.model,
        "architecture": type(model).__name__,
        "format": options.format,
        "precision": "int8" if options.int8 else "fp32",
        "languages": made.languages,
        "inputs": made.inputs,
        "outputs": made.outputs,
        "file": made.file,
        "bytes": made.bytes,
        "bytes_of_the_model": sum(each.numel() * each.element_size() for each in model.parameters()),
        "check": [asdict(each) for each in made.checked],
        "latency_ms": dict(made.latency),
        "versions": {name: version(name) for name in ("xmodular", *packages)},
    }
