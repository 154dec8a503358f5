"""The model card of a pack: `README.md` with the Hub's metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import langcodes

from xmodular.model_cards import markdown_table
from xmodular.packs.pack import Pack

_USE = """```python
from xmodular import XmodForMaskedLM

model = XmodForMaskedLM.from_pretrained("{base}")
model.load_language("name of this repository, or its folder")
```"""


def pack_card(pack: Pack) -> str:
    """The text of a pack's model card."""
    import huggingface_hub

    tag = pack.names["bcp47"]
    on_hub = pack.base.name if pack.base.name and "/" in pack.base.name else None
    metadata = huggingface_hub.ModelCardData(
        language=langcodes.Language.get(tag).language if tag else None,
        license=pack.licence.lower() if pack.licence else None,
        library_name="xmodular",
        tags=["xmod", "language-pack", "multilingual"],
        base_model=on_hub,
        base_model_relation="adapter" if on_hub else None,
    )
    name = pack.names["english"] or pack.language
    native = f" ({pack.names['native']})" if pack.names["native"] not in (None, name) else ""
    parts = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {name}: language pack for X-MOD",
        f"The adapter of {name}{native}, code `{pack.language}`, in {pack.dtype}, for "
        f"{f'[{on_hub}](https://huggingface.co/{on_hub})' if on_hub else 'the model it was trained with'} and models "
        "fine-tuned from it with embeddings and adapters frozen."
        + (f" It has its own vocabulary of {pack.vocabulary:,} rows." if pack.vocabulary is not None else ""),
        "## Use",
        _USE.format(base=on_hub or "folder of the model"),
        "Or on the command line: `xmodular pack install PACK --model MODEL`. It is only installed in models it fits.",
    ]
    if pack.note:
        parts += ["## Origin", pack.note]
    if pack.scores:
        parts += ["## Scores", _table(pack.scores)]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table, with a column for each key of any of them."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return markdown_table(columns, ([_cell(row.get(key)) for key in columns] for row in rows))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("\n", " ")
