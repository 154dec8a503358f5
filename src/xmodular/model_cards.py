"""What the model cards of models and packs share: tables, languages, and where a model is from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import langcodes

from xmodular.languages import english_name, tag_of


def markdown_table(heading: Sequence[object], rows: Iterable[Sequence[object]], *, right: bool = False) -> str:
    """A table in Markdown; with `right`, all columns but the first are aligned to the right."""
    rule = ["---", *["---:" if right else "---"] * (len(heading) - 1)]
    lines = [heading, rule, *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def iso_codes(codes: Iterable[str]) -> list[str]:
    """The ISO 639 codes of languages, sorted; those that have none are left out."""
    tags = filter(None, map(tag_of, codes))
    return sorted({language for tag in tags if (language := langcodes.Language.get(tag).language)})


def named_languages(codes: Iterable[str]) -> str:
    """Languages by their English names, with their codes."""
    return ", ".join(f"{english_name(code)} (`{code}`)" for code in codes)


def base_on_hub(model: str) -> str | None:
    """A model's name if it is one on the Hub, not a folder."""
    return model if "/" in model and not Path(model).exists() else None


def linked(name: str) -> str:
    """A link to a model on the Hub; of a folder, its name."""
    on_hub = base_on_hub(name)
    return f"[{on_hub}](https://huggingface.co/{on_hub})" if on_hub else f"`{Path(name).name}`"
