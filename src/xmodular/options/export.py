"""The options of `export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xmodular.options.declaring import REVISION, Idle, Options, Place, at_least, option

GraphFormat = Literal["onnx", "torch"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """Export a model as a graph in some of its languages, checked on text against the model."""

    verb, home = "export", "xmodular.exporting:export"
    example = "xmodular export --model runs/topic --languages de,sw --output topic.onnx"
    first = ("model", "languages", "output", "format", "int8")

    model: str = option("Model folder or a name on the Hub.")
    revision: str | None = option(REVISION.format("model"), None)
    languages: tuple[str, ...] = option(
        "Languages to export, in the order of their ids; of a single one, the graph has no input lang_ids. Default: "
        "all of the model's.",
        (),
    )
    output: Path = option("Folder for the graph, its tokenizer, configuration and report, such as topic.onnx.")
    format: GraphFormat = option("onnx, which predict and onnxruntime run; or torch: a .pt2 of torch.export.", "onnx")
    int8: bool = option("Store the weights of linear layers and embeddings in 8 bits (onnx only).", False)
    check: tuple[str, ...] = option(
        "Rows to check the graph on: files as for predict. Default, and in languages without rows: our sentences.",
        (),
    )
    check_rows: int = option("Most rows to check in each language.", 200, at_least(1))
    tokenizer: Place | None = option("Tokenizer folder; default: the model's.", None)
    overwrite: bool = option("Replace an exported model in --output.", False)

    idle = (
        Idle(
            ("int8",),
            lambda given: given.format != "onnx",
            "is for --format onnx; torch's programs keep the weights in fp32.",
        ),
        Idle(("check_rows",), lambda given: not given.check, "needs --check, the rows; our own sentences are few."),
    )
