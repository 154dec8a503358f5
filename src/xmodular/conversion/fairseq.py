"""Convert X-MOD checkpoints from fairseq's format and to it, without fairseq."""

from __future__ import annotations

from xmodular.conversion.from_fairseq import from_fairseq
from xmodular.conversion.outcome import Converted, say
from xmodular.conversion.to_fairseq import write_fairseq
from xmodular.options import ConvertOptions
from xmodular.signatures import verb

__all__ = ["Converted", "convert"]


@verb(ConvertOptions, "source", holds="output_dir")
def convert(options: ConvertOptions) -> Converted:
    """Convert a checkpoint from fairseq's format or to it.

    Nothing in the file runs, and every weight is accounted for: converted, ignored by name, or an error. The weights'
    bytes stay as they are, so fairseq to here and back gives the same tensors.

    Args:
        source: towards this library a fairseq checkpoint (``model.pt``) or a folder with one; else a model folder or
            a name on the Hub.
        output_dir: the folder to make.

    Returns:
        What was converted, and what was not.

    Raises:
        DataError: a file is missing or damaged, or weights are missing, unknown or of the wrong shape.
        ConfigurationError: file, weights and preset contradict each other, or the other format cannot hold the model.
    """
    converted = from_fairseq(options) if options.to == "xmodular" else write_fairseq(options)
    say(
        converted,
        f"Converted {converted.weights} weights of {converted.architecture} with {len(converted.config.languages)} "
        f"languages to {converted.output_dir} ({', '.join(converted.files)})",
    )
    return converted
