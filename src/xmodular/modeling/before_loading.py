"""Check a model's files before loading: whether they are X-MOD, what memory they need, which languages to load."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from xmodular.configuration import XmodConfig, check_kind, numbers_in
from xmodular.errors import ConfigurationError
from xmodular.languages import resolve, resolve_all, resolve_or_none
from xmodular.weights import size_of_weights

# Options of `from_pretrained` that say where the files are.
WHERE = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")

# How much larger than its files a model may be, for a new head or a new language. The names alone of adapters and other
# parts of layers take more bytes in a file.
_FREE_NUMBERS, _NUMBERS_A_BYTE = 2**27, 16
_PARTS_OF_A_LAYER, _FREE_PARTS, _BYTES_A_PART = 8, 2**12, 2**8


def stored_fields(source: Any, where: Mapping[str, Any]) -> dict[str, Any]:
    """The content of config.json; empty if there is none.

    Raises:
        ConfigurationError: if the weights are another architecture's.
    """
    try:
        content: dict[str, Any] = XmodConfig.get_config_dict(source, **where)[0]
    except (OSError, ValueError):  # it is missing, or loading will report the problem
        return {}
    check_kind(source, content)
    return content


def choose_languages(
    source: Any,
    loading: dict[str, Any],
    fields: Mapping[str, Any],
    where: Mapping[str, Any],
    languages: Sequence[str] | None,
    fallback: str | None,
) -> None:
    """Put the requested languages, and their default, into the arguments for loading.

    Args:
        source: location of the model.
        loading: the arguments for loading; changed in place.
        fields: the fields of config.json.
        where: options that say where the files are.
        languages: names, in the order of their new ids; None for all.
        fallback: "relative" uses the nearest relative of a language that the model lacks, with a warning.

    Raises:
        LanguageError: if the model has no such language, or the default is not among them.
    """
    config = loading.get("config")
    given = config.languages if isinstance(config, XmodConfig) else []
    among = given
    if languages is None and given and given != (known := fields.get("languages", given)):
        languages, among = given, known  # the Auto classes put them into the configuration unchanged
    if languages is None and "default_language" not in loading:
        return
    stored = config if isinstance(config, XmodConfig) else XmodConfig.from_pretrained(config or source, **where)
    codes = list(stored.languages)
    if languages is not None:
        codes = resolve_all(languages, among or codes, fallback=fallback)
    default = stored.default_language and resolve_or_none(stored.default_language, codes)
    default = loading.pop("default_language", codes[0] if len(codes) == 1 else default)
    chosen = {
        "languages": codes,
        "vocabularies": {code: rows for code, rows in stored.vocabularies.items() if code in codes},
        "default_language": None if default is None else resolve(default, codes, fallback=fallback),
    }
    if not isinstance(config, XmodConfig):
        loading.update(chosen)
        return
    loading["config"] = copy.deepcopy(config)
    for name, value in chosen.items():
        setattr(loading["config"], name, value)


def check_size(source: Any, fields: Mapping[str, Any], given: Mapping[str, Any], where: Mapping[str, Any]) -> None:
    """Check that a model is not far larger than its files, before memory is allocated: the rest would be random.

    Args:
        source: location of the files.
        fields: the fields of config.json.
        given: arguments for loading, which may change fields.
        where: options that say where the files are.

    Raises:
        ConfigurationError: it has far more parameters, or parts, than the files can contain.
    """
    size = size_of_weights(source, **where)
    if size is None:
        return  # loading will report what is missing
    config = given.get("config")
    if not isinstance(config, XmodConfig):
        names = (*XmodConfig.__annotations__, "num_labels")
        config = XmodConfig.from_dict({**fields, **{name: given[name] for name in names if name in given}})
    parts = config.num_hidden_layers * (_PARTS_OF_A_LAYER + len(config.languages))
    for what, count, most in (
        ("numbers", numbers_in(config), _FREE_NUMBERS + _NUMBERS_A_BYTE * size),
        ("parts of layers", parts, _FREE_PARTS + size // _BYTES_A_PART),
    ):
        if count > most:
            raise ConfigurationError(
                f"{source} has weights of {size:,} bytes, but its config.json asks for {count:,} {what}: they do "
                "not match."
            )
