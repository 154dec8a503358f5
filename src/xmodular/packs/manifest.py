"""`pack.json`: treated as untrusted, checked field by field, with all problems reported together."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from xmodular.errors import PackError, listed
from xmodular.languages import code_problem
from xmodular.packs.fingerprints import DTYPES, Base
from xmodular.weight_names import PACK_BIAS, PACK_WORDS, in_pack

FORMAT = "xmodular-language-pack"
VERSION = 1
TIME = "%Y-%m-%dT%H:%M:%SZ"

MANIFEST, CARD = "pack.json", "README.md"
ADAPTER, TOKENIZER, EMBEDDINGS = "adapter.safetensors", "tokenizer.json", "embeddings.safetensors"
# All that is ever read or written.
FILES = (MANIFEST, CARD, ADAPTER, TOKENIZER, EMBEDDINGS)

MAX_MANIFEST = 1 << 20
# Far beyond any existing model; a pack that claims more is not stored.
_MAX_WIDTH = 1 << 16
_MAX_LAYERS = 1 << 10
_MAX_ROWS = 1 << 20
_MAX_BYTES = 1 << 31  # of a file's tensors

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline

_KEYS = (
    *("format", "version", "language", "names", "base", "dtype", "vocabulary", "licence", "note", "scores"),
    *("created", "writer", "files", "checksum"),
)
_BASE_KEYS = tuple(field.name for field in dataclasses.fields(Base))
_NAME_KEYS = ("english", "native", "bcp47")


def read(path: Path) -> dict[str, Any]:
    """The fully checked content of a pack's `pack.json`.

    Raises:
        PackError: the file is missing, larger than 1 MiB, not valid, or changed since it was written.
    """
    try:
        if not path.is_file():
            raise PackError(f"{path.parent} is not a language pack: it has no {MANIFEST}.")
        with path.open("rb") as file:
            text = file.read(MAX_MANIFEST + 1)
    except OSError as error:
        raise PackError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(text) > MAX_MANIFEST:
        raise PackError(f"{path} is larger than {MAX_MANIFEST:,} bytes, too much for the {MANIFEST} of a pack.")
    try:
        content = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
        seal = checksum(content) if isinstance(content, dict) else None
    except RecursionError:
        raise PackError(f"{path} is nested too deeply for the {MANIFEST} of a language pack.") from None
    except ValueError as error:  # not UTF-8, not JSON, or refused by one of the hooks
        raise PackError(f"{path} is not valid: {error!s:.200}.") from None
    if seal is None or content.get("format") != FORMAT:
        raise PackError(f"{path} is not the {MANIFEST} of a language pack: its format is not {FORMAT!r}.")
    version = content.get("version")
    if type(version) is int and version > VERSION:
        raise PackError(
            f"{path} has format version {version!r:.20}; this xmodular reads version {VERSION}. Use a newer xmodular."
        )
    found = list(problems(content))
    if not found and content["checksum"] != seal:
        found.append("its checksum is wrong: the file is damaged or was edited by hand")
    if found:
        raise PackError(f"{path} is not valid:{listed(found[:40])}")
    return content


def checksum(content: dict[str, Any]) -> str:
    """SHA-256 of all fields except the checksum itself, independent of order and spacing."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def tensor_shapes(content: dict[str, Any]) -> dict[str, dict[str, tuple[int, ...]]]:
    """The tensors that a checked manifest implies: by file, then by name. `lm_head.bias` may be missing."""
    shape = content["base"]["shape"]
    hidden, bottleneck = shape["hidden_size"], shape["bottleneck_size"]
    implied: dict[str, dict[str, tuple[int, ...]]] = {ADAPTER: {}}
    for layer in range(shape["num_hidden_layers"]):
        implied[ADAPTER] |= {
            in_pack(layer, "dense1.weight"): (bottleneck, hidden),
            in_pack(layer, "dense1.bias"): (bottleneck,),
            in_pack(layer, "dense2.weight"): (hidden, bottleneck),
            in_pack(layer, "dense2.bias"): (hidden,),
        }
    if (rows := content["vocabulary"]) is not None:
        implied[EMBEDDINGS] = {PACK_WORDS: (rows, hidden), PACK_BIAS: (rows,)}
    return implied


def problems(content: dict[str, Any]) -> Iterator[str]:
    """Yields a line for each field that is not valid."""
    missing_or_more = list(_keys("", content, _KEYS))
    yield from missing_or_more
    if missing_or_more:
        return
    if type(content["version"]) is not int or content["version"] != VERSION:
        yield f"version is {_show(content['version'])}: it must be {VERSION}"
    if not isinstance(content["language"], str):
        yield f"language is {_show(content['language'])}: it must be a code such as 'de_DE'"
    elif problem := code_problem(content["language"]):
        yield f"language is {_plain(problem.removesuffix('.'))}"
    if not isinstance(content["dtype"], str) or content["dtype"] not in DTYPES:
        yield f"dtype is {_show(content['dtype'])}: it must be one of {', '.join(DTYPES)}"
    vocabulary = content["vocabulary"]
    if vocabulary is not None and not _whole(vocabulary, 1, _MAX_ROWS):
        yield f"vocabulary is {_show(vocabulary)}: it must be null or a number of rows, at most {_MAX_ROWS:,}"
    for key in ("licence", "note"):
        yield from _text(key, content[key], optional=True)
    yield from _text("writer", content["writer"])
    yield from _time(content["created"])
    yield from _table("names", content["names"], _NAME_KEYS)
    if isinstance(content["names"], dict):
        for key, value in content["names"].items():
            yield from _text(f"names.{key}", value, optional=True)
    wrong = list(_base(content["base"]))
    yield from wrong
    if not wrong:
        yield from _too_large(content["base"]["shape"], content["vocabulary"], content["dtype"])
    yield from _scores(content["scores"])
    yield from _hash("checksum", content["checksum"])
    yield from _files(content["files"], vocabulary is not None)


def _base(base: Any) -> Iterator[str]:
    wrong = list(_table("base", base, _BASE_KEYS))
    yield from wrong
    if wrong:
        return
    for key in ("name", "tokenizer"):
        yield from _text(f"base.{key}", base[key], optional=True)
    if not _whole(base["rows"], 1, 1 << 31):
        yield f"base.rows is {_show(base['rows'])}: it must be a positive number of rows"
    for part in ("frame", "words"):
        prints = base[part]
        if not isinstance(prints, dict) or not prints or not set(prints) <= set(DTYPES):
            yield f"base.{part} is {_show(prints)}: it must be a table of hashes by {', '.join(DTYPES)}"
            continue
        for key, value in prints.items():
            yield from _hash(f"base.{part}.{key}", value)
    shape = base["shape"]
    if not isinstance(shape, dict):
        yield f"base.shape is {_show(shape)}: it must be a table"
        return
    for key, value in shape.items():
        yield from _text("a name in base.shape", key)
        if not all(map(_scalar, value if isinstance(value, list) else [value])):
            yield f"base.shape.{key!s:.40} is {_show(value)}: it must be text, a number, true, false, null or a list"
    most = {"hidden_size": _MAX_WIDTH, "bottleneck_size": _MAX_WIDTH, "num_hidden_layers": _MAX_LAYERS}
    wrong = [key for key, limit in most.items() if not _whole(shape.get(key), 1, limit)]
    for key in wrong:
        yield f"base.shape.{key} is {_show(shape.get(key))}: it must be a whole number from 1 to {most[key]:,}"


def _too_large(shape: dict[str, Any], vocabulary: Any, dtype: Any) -> Iterator[str]:
    """Whether sizes that are possible one by one imply tensors that are not."""
    hidden, bottleneck, layers = (shape[key] for key in ("hidden_size", "bottleneck_size", "num_hidden_layers"))
    parts = {"adapter": layers * (2 * hidden * bottleneck + hidden + bottleneck)}
    if _whole(vocabulary, 1, _MAX_ROWS):
        parts["embeddings"] = vocabulary * (hidden + 1)
    each = DTYPES[dtype].itemsize if isinstance(dtype, str) and dtype in DTYPES else 4
    for part, numbers in parts.items():
        if numbers * each > _MAX_BYTES:
            yield f"base.shape, vocabulary and dtype imply {part} of {numbers * each:,} bytes; at most {_MAX_BYTES:,}"


def _files(files: Any, vocabulary: bool) -> Iterator[str]:
    expected = [ADAPTER, *((TOKENIZER, EMBEDDINGS) if vocabulary else ())]
    wrong = list(_table("files", files, expected))
    yield from wrong
    if wrong:
        return
    for name in expected:
        record = files[name]
        wrong = list(_table(f"files.{name}", record, ["size", "sha256"]))
        yield from wrong
        if wrong:
            continue
        if not _whole(record["size"], 0, 1 << 62):
            yield f"files.{name}.size is {_show(record['size'])}: it must be a number of bytes"
        yield from _hash(f"files.{name}.sha256", record["sha256"])


def _scores(scores: Any) -> Iterator[str]:
    if not isinstance(scores, list) or not all(isinstance(row, dict) for row in scores):
        yield f"scores is {_show(scores)}: it must be a list of tables"
        return
    for row in scores:
        for key, value in row.items():
            yield from _text("a name in scores", key)
            if not _scalar(value):
                yield f"{key!s:.40} in scores is {_show(value)}: it must be text, a finite number, true, false or null"


def _time(value: Any) -> Iterator[str]:
    try:
        datetime.strptime(value, TIME)
    except (TypeError, ValueError):
        yield f"created is {_show(value)}: it must be a time such as 2025-01-31T12:00:00Z"


def _hash(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        yield f"{name} is {_show(value)}: it must be a SHA-256 in 64 hexadecimal digits"


def _text(name: str, value: Any, *, optional: bool = False) -> Iterator[str]:
    if (value is None and optional) or (isinstance(value, str) and _printable(value)):
        return
    yield f"{name} is {_show(value)}: it must be {'null or ' if optional else ''}text without control characters"


def _table(name: str, value: Any, keys: Sequence[str]) -> Iterator[str]:
    if isinstance(value, dict):
        yield from _keys(f"{name}.", value, keys)
    else:
        yield f"{name} is {_show(value)}: it must be a table of {', '.join(keys)}"


def _keys(prefix: str, table: dict[str, Any], keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        if key not in table:
            yield f"{prefix}{key} is missing"
    for key in table:
        if key not in keys:
            yield f"{prefix}{key.encode('ascii', 'backslashreplace').decode():.60} does not belong there"


def _whole(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _scalar(value: Any) -> bool:
    if isinstance(value, str):
        return _printable(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int)


def _printable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return not _CONTROL.search(text)


def _show(value: Any) -> str:
    """A value, short and without anything that a terminal would act on."""
    if isinstance(value, dict | list):
        return f"{'a table' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return ascii(value)[:60] if not isinstance(value, int) or abs(value) < 1 << 64 else "a huge number"


def _plain(text: str) -> str:
    """A message, short and in ASCII."""
    return text.encode("ascii", "backslashreplace").decode()[:160]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("it contains a key twice")
    return table


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number in it is too large")
    return value
