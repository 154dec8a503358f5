"""Check a loaded model: weights missing from its files would silently be random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xmodular.errors import ConfigurationError, first_of
from xmodular.modeling.model import XmodModel
from xmodular.modeling.trainable import parameter_group

_SHOWN = 6  # names in a message


def check_loaded(source: Any, model: Any, report: Mapping[str, Any], *, new_head: bool) -> bool:
    """Check that all weights of a model come from its files.

    Args:
        source: where they are.
        model: the loaded model; a pooler that the files do not have is removed from a bare encoder.
        report: the loading information of `from_pretrained(..., output_loading_info=True)`.
        new_head: whether weights of a task head may be new, because they will be trained.

    Returns:
        Whether weights of the head are new.

    Raises:
        ConfigurationError: weights are missing, or have other shapes than in the configuration.
    """
    mismatched = [str(key[0]) for key in report["mismatched_keys"]]
    if other := [name for name in mismatched if parameter_group(name) != "task head"]:
        raise ConfigurationError(f"The weights at {source} do not have the shapes of its config.json: {other[0]}.")
    missing = sorted(report["missing_keys"])
    if other := [name for name in missing if parameter_group(name) != "task head"]:
        raise ConfigurationError(f"The model at {source} lacks {len(other)} weights, among them {other[0]}.")
    head = [*mismatched, *missing]
    if head and not new_head:
        if not isinstance(model, XmodModel):
            raise ConfigurationError(
                f"The model at {source} is an {type(model).__name__}, but the weights of its head are not in the file: "
                f"{first_of(head, _SHOWN)}. They would be random. Train a head first (xmodular "
                f"finetune --model {source}), or use the folder that fine-tuning wrote."
            )
        model.pooler = None
    return bool(head)
