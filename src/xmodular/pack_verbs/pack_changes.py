"""Save a language of a model as a pack, install a pack in a model, and remove a language."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from xmodular.console import console
from xmodular.errors import ConfigurationError
from xmodular.languages import resolve
from xmodular.modeling import XmodPreTrainedModel
from xmodular.options import PackInstallOptions, PackRemoveOptions, PackSaveOptions
from xmodular.outputs import check_apart
from xmodular.pack_verbs.pack_checks import given_pack
from xmodular.pack_verbs.pack_targets import in_place, save_changed, target_of, tokenizer_hash
from xmodular.packs import Pack, check_repository, check_target, push_pack, read_pack
from xmodular.results import Results
from xmodular.saved_models import given_merged_model, given_model, load_saved
from xmodular.signatures import verb

_PARTS = {
    "shape": "shape",
    "frame": "position embeddings and shared LayerNorms",
    "words": "word embeddings",
    "tokenizer": "tokenizer",
}


@verb(PackSaveOptions, "model", "language", objects={"model": given_merged_model}, holds="output_dir")
def pack_save(options: PackSaveOptions, given: XmodPreTrainedModel | None) -> Pack:
    """Save one language of a model as a language pack.

    Args:
        model: an object, a folder or a name on the Hub.
        language: a language of the model.

    Returns:
        The pack.

    Raises:
        ConfigurationError: there is no model, or `results` has no rows of the language.
        LanguageError: the model has no such language.
        PackError: the pack's folder is in use, or the Hub refuses the upload.
    """
    check_apart(options.output_dir, [options.model, options.results])
    check_target(options.output_dir, overwrite=options.overwrite)
    if options.push_to_hub is not None:
        check_repository(options.push_to_hub)
    results = Results.from_json(options.results) if options.results is not None else None
    model = given if given is not None else load_saved(options.model)
    code = resolve(options.language, model.languages)
    scores = _scores(results, code, options.results) if results is not None else []
    with console.status(Text(f"Writing {code}")):
        pack = model.save_language(
            code,
            options.output_dir,
            precision=options.precision,
            licence=options.licence,
            note=options.note,
            scores=scores,
            tokenizer_hash=tokenizer_hash(model),
            overwrite=options.overwrite,
        )
    size = sum(record.size for record in pack.files.values())
    console.print(f"Saved {pack.title} in {options.output_dir} ({size:,} bytes, {pack.dtype})")
    if options.push_to_hub is not None:
        url = push_pack(pack, options.push_to_hub, private=options.private)
        console.print(f"Uploaded to {url}")
    return pack


@verb(PackInstallOptions, "pack", "model", objects={"pack": given_pack, "model": given_model})
def pack_install(options: PackInstallOptions, opened: Pack | None, given: XmodPreTrainedModel | None) -> str:
    """Install a language pack in a model; nothing else in the model changes.

    Args:
        pack: an object, a folder or a name on the Hub.
        model: an object, which is changed, and saved only if there is an `output_dir`; or a folder, which is changed
            in place unless there is an `output_dir`; or a name on the Hub.

    Returns:
        The language's code in the model.

    Raises:
        ConfigurationError: there is no model, the output is in use, or it is missing for a model on the Hub.
        LanguageError: the code is not valid, or is in use and `overwrite` is False.
        PackError: the pack is damaged or does not fit; every mismatch is listed.
    """
    with target_of(options, given, options.pack if opened is None else opened.folder) as target:
        return _installed(options, given, opened, target)


def _installed(
    options: PackInstallOptions, given: XmodPreTrainedModel | None, opened: Pack | None, target: Path | None
) -> str:
    pack = opened if opened is not None else read_pack(options.pack)
    pack.check()
    model = given if given is not None else load_saved(options.model)
    tokenizer = tokenizer_hash(model)
    with console.status(Text(f"Comparing {pack.language} with the model")):
        differing = {misfit.part for misfit in model.misfits(pack, tokenizer_hash=tokenizer)}
        code = model.load_language(
            pack, language=options.language, force=options.force, overwrite=options.overwrite, tokenizer_hash=tokenizer
        )
    agreed = [part for part in _compared(pack, tokenizer) if part not in differing]
    if target is not None:
        save_changed(model, options, target, pack.folder)
    where = target if target is not None else "the model (not saved: no output_dir)"
    console.print(f"Installed {pack.title} as {code} in {where}: {len(model.languages)} languages")
    console.print(f"Identical in the pack's base and in this model: {_listed(agreed)}")
    if differing:
        console.print(f"Different, installed anyway (--force): {_listed(sorted(differing))}")
    if target is not None and not in_place(options.model, target):
        shown = f"xmodular diff {options.model} {target} --allow {code}"
        console.print(f"To check that nothing else changed, bit by bit: {shown}")
    elif target is not None and code == pack.language:
        console.print(f"To check its weights, bit by bit: xmodular diff {options.pack} {target}")
    return code


@verb(PackRemoveOptions, "model", "language", objects={"model": given_model})
def pack_remove(options: PackRemoveOptions, given: XmodPreTrainedModel | None) -> str:
    """Remove a language from a model; nothing else in the model changes.

    Args:
        model: an object, a folder or a name on the Hub; the result is saved as for `pack_install`.
        language: a language of the model.

    Returns:
        The code of the removed language.

    Raises:
        ConfigurationError: there is no model, the output is in use, or it is missing for a model on the Hub.
        LanguageError: the model does not have the language, or has no other.
    """
    with target_of(options, given) as target:
        model = given if given is not None else load_saved(options.model)
        code = resolve(options.language, model.languages)
        model.remove_language(code)
        if target is not None:
            save_changed(model, options, target)
    where = target if target is not None else "the model (not saved: no output_dir)"
    console.print(f"Removed {code} from {where}: {len(model.languages)} languages")
    return code


def _scores(results: Results, code: str, path: Path | None) -> list[dict[str, Any]]:
    """The rows of a language."""
    rows = [asdict(row) for row in results.rows if row.language == code]
    if not rows:
        there = ", ".join(results.languages()) or "none"
        raise ConfigurationError(f"{path} has no rows for {code}; its languages are {there}.")
    return rows


def _compared(pack: Pack, tokenizer: str | None) -> list[str]:
    """The parts that a pack and a model are compared in."""
    if pack.vocabulary is not None:
        return ["shape", "frame"]
    return ["shape", "frame", "words", *(["tokenizer"] if tokenizer and pack.base.tokenizer else [])]


def _listed(parts: list[str]) -> str:
    return ", ".join(_PARTS[part] for part in parts) or "nothing"
