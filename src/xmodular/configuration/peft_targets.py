"""The layers that methods of PEFT change by default, told to PEFT if it is there; it is never imported for that."""

from __future__ import annotations

import sys

_KIND = "xmod"
_LIKE = ("xlm-roberta", "roberta", "bert")  # their layers have the same names


def name_peft_targets() -> None:
    """Give this model type, in each table of PEFT's defaults, the layers that PEFT names for XLM-R.

    So ``LoraConfig()`` takes ``query`` and ``value``. The adapters of languages are in no default.
    """
    constants = sys.modules.get("peft.utils.constants")
    for name, table in list(vars(constants).items()) if constants else []:
        if not name.startswith("TRANSFORMERS_MODELS_TO_") or not name.endswith("_MODULES_MAPPING") or _KIND in table:
            continue
        if (layers := next((table[kind] for kind in _LIKE if kind in table), None)) is not None:
            table[_KIND] = layers
