"""Trim a model: some of its languages, and the pieces that their text needs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xmodular.configuration import read_config
from xmodular.console import console, quiet_transformers
from xmodular.errors import ConfigurationError, LanguageError
from xmodular.files import folder_beside, write_json, write_text
from xmodular.languages import resolve_all, resolve_or_none
from xmodular.options import TrimOptions
from xmodular.outputs import check_model_folder
from xmodular.saved_models import load_saved, tokenizer_of
from xmodular.scripts import scripts_of
from xmodular.signatures import verb
from xmodular.text.raw_lines import is_text
from xmodular.text.text_files import TextFiles, find_text
from xmodular.trimming.model_size import size_of, size_of_source
from xmodular.trimming.trim_card import trim_card
from xmodular.trimming.trim_report import Reading, Trimmed
from xmodular.trimming.trimmed_vocabulary import HELD_OUT, TrimmedVocabulary
from xmodular.trimming.trimmed_weights import keep_own_rows, keep_rows, named_ids
from xmodular.vocabulary import save_tokenizer


@verb(TrimOptions, "model", "languages", holds="output_dir")
def trim(made: TrimOptions) -> Trimmed:
    """Trim a model to some of its languages, and to the pieces of the vocabulary that their text needs.

    What stays: every piece that a line of the text uses, all pieces in the languages' scripts with `scripts`, and a
    safety set: special and added tokens, bytes, ASCII, digits, punctuation and symbols, and all characters of the text,
    capital and small. Unigram, WordPiece and BPE tokenizers are rewritten such that all of the text is cut into the
    same pieces as before, which is checked line by line; with `min_count` or `coverage`, the lines are counted. States
    are those of the source, and so are the logits of a language-model head at pieces that stay.

    Args:
        model: a folder or a name on the Hub.
        output_dir: the folder to create.

    Returns:
        A report of sizes and of how text is cut before and after; also in the folder, as ``trim.json``.

    Raises:
        ConfigurationError: there is no such model, or neither text nor `scripts` is given.
        LanguageError: the model lacks a language, or there is no text in it.
        DataError: a file cannot be read, or the tokenizer cannot be trimmed.
    """
    sources = [made.model, made.tokenizer, made.dev_text, *made.text]
    check = functools.partial(check_model_folder, made.output_dir, overwrite=made.overwrite, sources=sources)
    check()
    config = read_config(made.model)
    codes = resolve_all(made.languages, config.languages) if made.languages else list(config.languages)
    own = [code for code in codes if code in config.vocabularies]
    texts = _texts(made, made.text, codes, own)
    held_out = _texts(made, () if made.dev_text is None else (str(made.dev_text),), codes, own)
    scripts = sorted(scripts_of(codes)) if made.scripts else []
    console.print(f"Trimming {made.model} to {', '.join(codes)}; output goes to {made.output_dir}")
    model = load_saved(made.model, languages=codes)
    shared = [code for code in codes if code not in own]
    pad, tokenizer = config.pad_token_id, tokenizer_of(model, made.tokenizer)
    vocabularies = [TrimmedVocabulary(None, shared, tokenizer, pad, named_ids(model), made.min_count, made.coverage)]
    vocabularies += [
        TrimmedVocabulary(code, [code], tokenizer_of(model, None, code), pad, set(), made.min_count, made.coverage)
        for code in (own if made.own_vocabularies == "trim" else ())
    ]
    before, same_languages = (
        size_of_source(made.model, config, tokenizer, model.tokenizers.values()),
        size_of(model, tokenizer),
    )
    readings: dict[str, Reading] = {}
    for vocabulary in vocabularies:
        vocabulary.choose({code: texts[code] for code in vocabulary.languages if code in texts}, held_out, scripts)
        readings |= vocabulary.readings
        if vocabulary.owner is None:
            keep_rows(model, vocabulary.order)
        else:
            text = vocabulary.trimmed.backend_tokenizer.to_str()
            keep_own_rows(model, vocabulary.owner, text, vocabulary.order)
    with folder_beside(made.output_dir, check) as folder, quiet_transformers():
        save_tokenizer(vocabularies[0].trimmed, folder, model.config)
        model.save_pretrained(folder)
        after = replace(
            size_of(model, vocabularies[0].trimmed),
            weights=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
            tokenizer=sum(path.stat().st_size for path in folder.glob("tokenizer*.json")),
        )
        ordered = {code: readings[code] for code in codes if code in readings}
        trimmed = Trimmed(
            made.model, made.output_dir, tuple(codes), tuple(scripts), before, same_languages, after, ordered
        )
        write_json(folder / "trim.json", trimmed.record())
        write_text(folder / "README.md", trim_card(trimmed, type(model).__name__))
    console.print(f"Kept {after.pieces:,} of {same_languages.pieces:,} pieces in {made.output_dir}")
    return trimmed


def _texts(
    options: TrimOptions, places: Sequence[str], codes: Sequence[str], own: Sequence[str]
) -> dict[str, TextFiles]:
    """The text of each language; those in `own` have a vocabulary of their own.

    Raises:
        ConfigurationError: there is none to choose pieces from.
        LanguageError: a language has none, and neither the pieces of its script nor all its own are asked for.
        DataError: there is no such file or folder, or a file's name does not begin with a language.
    """
    is_text_to_keep = places is options.text
    if not places and is_text_to_keep and not options.scripts:
        raise ConfigurationError("Nothing says which pieces to keep: give --text, --scripts, or both.")
    found: dict[str, list[Path]] = {}
    for place in map(Path, places):
        if not is_text(place):
            for code, files in find_text(place).items():
                found.setdefault(code, []).extend(files)
        elif len(codes) == 1:
            found.setdefault(codes[0], []).append(place)
        else:
            found.setdefault(place.name.split(".", 1)[0], []).append(place)
    texts = {}
    for code in codes:
        name = resolve_or_none(code, found)
        if name is not None:
            texts[code] = TextFiles(code, tuple(found[name]), dev_fraction=HELD_OUT, text_field=options.text_field)
        elif places and is_text_to_keep and not options.scripts:
            if code in own and options.own_vocabularies == "keep":
                continue
            ways = ["leave it out of --languages", "keep all pieces of its script with --scripts"]
            ways += ["keep its own vocabulary as it is with --own-vocabularies keep"] if code in own else []
            raise LanguageError(
                f"there is no text for {code} in {', '.join(map(str, places))}, which has text for "
                f"{', '.join(found)}: {', or '.join(ways)}."
            )
    return texts
