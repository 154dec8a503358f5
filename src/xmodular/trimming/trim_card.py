"""The model card of a trimmed model: `README.md` with the Hub's metadata."""

from __future__ import annotations

import huggingface_hub

from xmodular.model_cards import base_on_hub, iso_codes, linked, markdown_table, named_languages
from xmodular.trimming.trim_report import Trimmed


def trim_card(trimmed: Trimmed, architecture: str) -> str:
    """The text of a model card.

    Args:
        trimmed: the report.
        architecture: the class of the model.
    """
    metadata = huggingface_hub.ModelCardData(
        language=iso_codes(trimmed.languages),
        library_name="xmodular",
        tags=["xmod", "multilingual"],
        base_model=base_on_hub(trimmed.model),
    )
    before, after = trimmed.same_languages, trimmed.after
    sizes = [
        (name, *(f"{getattr(size, name):,}" for size in (trimmed.before, before, after)))
        for name in ("languages", "pieces", "parameters", "weights")
    ]
    parts = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {trimmed.output_dir.resolve().name}: a trimmed X-MOD model",
        f"This `{architecture}` is {linked(trimmed.model)} with {len(trimmed.languages)} of its languages and "
        f"{after.pieces:,} of {before.pieces:,} pieces of its vocabulary. Nothing was trained: text whose pieces all "
        "stayed is read as before.",
        "## Languages",
        f"{named_languages(trimmed.languages)}.",
        "## Size",
        markdown_table(("", "before", "these languages", "trimmed"), sizes) + "\n\n`weights` in bytes.",
    ]
    if trimmed.readings:
        rows = [
            (
                code,
                f"{reading.lines:,}",
                f"{reading.same:.2%}",
                *_pair(reading.pieces_per_word),
                *_pair(reading.characters_per_piece),
                *(_pair(reading.unknown, ".3%")),
            )
            for code, reading in trimmed.readings.items()
        ]
        heading = [
            *("language", "lines", "cut as before", "pieces per word", "trimmed"),
            *("characters per piece", "trimmed", "unknown", "trimmed"),
        ]
        parts += [
            "## Text",
            markdown_table(heading, rows),
            "`lines` are those that pieces were chosen from; the columns to the right of `cut as before` are of text "
            "that they were not chosen from, with all pieces and trimmed.",
        ]
    return "\n\n".join([*parts, "Trimmed with xmodular; `trim.json` has all numbers."]) + "\n"


def _pair(values: tuple[float, float] | None, form: str = ".3f") -> tuple[str, str]:
    return ("-", "-") if values is None else (f"{values[0]:{form}}", f"{values[1]:{form}}")
