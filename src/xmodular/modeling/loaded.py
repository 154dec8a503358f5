"""What a model that was loaded lacks: weights that the files do not have are drawn at random, and look like any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xmodular.errors import ConfigurationError
from xmodular.modeling.model import XmodModel
from xmodular.modeling.trainable import parameter_group

_SHOWN = 6  # names in a message


def check_loaded(source: Any, model: Any, report: Mapping[str, Any], *, new_head: bool) -> bool:
    """Check that a model's weights are those of the files.

    Args:
        source: where they are.
        model: as it was loaded; a bare encoder loses a pooler that the files do not have.
        report: what `from_pretrained(..., output_loading_info=True)` says of the loading.
        new_head: whether weights of a task's head may be new, because they are to be trained.

    Returns:
        Whether weights of the head are new.

    Raises:
        ConfigurationError: weights are missing, or of other shapes than the configuration asks for.
    """
    mismatched = [str(key[0]) for key in report["mismatched_keys"]]
    if other := [name for name in mismatched if parameter_group(name) != "task head"]:
        raise ConfigurationError(f"The model at {source} has weights of other shapes than its config.json: {other[0]}.")
    missing = sorted(report["missing_keys"])
    if other := [name for name in missing if parameter_group(name) != "task head"]:
        raise ConfigurationError(f"The model at {source} lacks {len(other)} weights, among them {other[0]}.")
    head = [*mismatched, *missing]
    if head and not new_head:
        if not isinstance(model, XmodModel):
            more = f" and {len(head) - _SHOWN} more" if len(head) > _SHOWN else ""
            raise ConfigurationError(
                f"The model at {source} is a {type(model).__name__}, but the weights of its head are not in the file: "
                f"{', '.join(head[:_SHOWN])}{more}. Random ones would take their place. Train a head first (xmodular "
                f"finetune --model {source}), or take the folder that fine-tuning wrote."
            )
        model.pooler = None
    return bool(head)
