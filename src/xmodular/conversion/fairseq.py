"""Convert X-MOD checkpoints from and to fairseq's format, without fairseq."""

from __future__ import annotations

from xmodular.conversion.from_fairseq import from_fairseq
from xmodular.conversion.outcome import Converted, say
from xmodular.conversion.to_fairseq import write_fairseq
from xmodular.options import ConvertOptions
from xmodular.signatures import verb

__all__ = ["Converted", "convert"]


@verb(ConvertOptions, "source", holds="output_dir")
def convert(options: ConvertOptions) -> Converted:
    """Convert a checkpoint from or to fairseq's format.

    No code in the file is run. Every weight is accounted for: converted, ignored by name, or an error. The weights'
    bytes do not change, so converting from fairseq and back gives the same tensors.

    Args:
        source: a fairseq checkpoint (``model.pt``) or a folder with one; with ``to="fairseq"``, a model folder or
            a name on the Hub.
        output_dir: the folder to create.

    Returns:
        A report of what was converted and what was not.

    Raises:
        DataError: a file is missing or damaged, or weights are missing, unknown or of the wrong shape.
        ConfigurationError: file, weights and preset contradict each other, or the target format cannot hold the model.
    """
    converted = from_fairseq(options) if options.to == "xmodular" else write_fairseq(options)
    say(
        converted,
        f"Converted {converted.weights} weights of {converted.architecture} with {len(converted.config.languages)} "
        f"languages to {converted.output_dir} ({', '.join(converted.files)})",
    )
    return converted
