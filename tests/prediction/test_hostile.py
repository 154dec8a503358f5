"""Whatever comes in, a row is predicted or named with its reason, once."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xmodular import Predictor
from xmodular.modeling import XmodPreTrainedModel
from xmodular.prediction import predict
from xmodular.rows.writers import read_lines

_TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "",
            " ",
            "\u200f\u202eمرحبا\u202c",
            "👩‍👩‍👧‍👦🏳️‍🌈",
            "a\x00b",
            "\x00",
            "\ud800",
            "\udfff x",
            "\u2028",
            "﷽" * 50,
            "e" + "\u0301" * 40,
            "<mask></s><s><pad>",
            "line\nbreak\r",
            "ß" * 1000,
            '"quoted", \\',
        ]
    ),
)
_VALUES = st.one_of(
    _TEXTS, st.none(), st.booleans(), st.integers(), st.floats(), st.lists(_TEXTS, max_size=3), st.just({"a": {}})
)
_COLUMNS = st.sampled_from(
    ["id", "text", "premise", "hypothesis", "label", "language", "score", "adapter", "words", "tags", "question"]
)
_ROWS = st.one_of(
    st.fixed_dictionaries({"text": _TEXTS, "id": st.integers(0, 3)}),
    st.fixed_dictionaries({"words": st.lists(_TEXTS, max_size=4)}),
    st.fixed_dictionaries({"question": _TEXTS, "context": _TEXTS}),
    st.fixed_dictionaries({"text": _TEXTS, "language": st.sampled_from(["de", "tlh", "", "zz zz"])}),
    st.dictionaries(_COLUMNS, _VALUES, max_size=4),
)
# Rows that are JSON, and lines that are not.
_LINES = st.one_of(
    _ROWS.map(lambda row: json.dumps(row).encode()),
    st.sampled_from([b"{", b"[1]", b"null", b'"x"', b"\xff\xfe", b'{"text": 1e999}', b'{"text": "a", "text": "b"}']),
    st.just(b'{"text": ' + b"[" * 5000),
)
_LOADED: dict[str, XmodPreTrainedModel] = {}


def _model(folder: Path) -> XmodPreTrainedModel:
    if str(folder) not in _LOADED:
        _LOADED[str(folder)] = Predictor(folder).model
    return _LOADED[str(folder)]


def _once(folder: Path, lines: list[bytes], suffix: str, **more: Any) -> None:
    """Each line ends in the output or among the bad rows: unreadable ones by their place, the rest as they are."""
    with tempfile.TemporaryDirectory() as place:
        source, output = Path(place, "rows.jsonl"), Path(place, f"out{suffix}")
        source.write_bytes(b"".join(line + b"\n" for line in lines))
        done = predict(_model(folder), source, output, skip_bad_rows=True, window=4, **more)
        assert done.rows + done.bad == len(lines)
        bad = [] if done.bad_rows is None else list(read_lines(done.bad_rows))
        numbers = [int(row["place"].rpartition(":")[2]) for row in bad]
        assert len(set(numbers)) == len(bad) == done.bad
        if suffix != ".jsonl":
            return
        kept = [line for number, line in enumerate(lines, start=1) if number not in numbers]
        for line, out in zip(kept, read_lines(output), strict=True):
            for name, value in json.loads(line).items():
                assert json.dumps(out[name]) == json.dumps(value)  # NaN is itself
            assert sum(value == "de_DE" for name, value in out.items() if "adapter" in name) == 1


_QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_QUICK
@given(lines=st.lists(_LINES, max_size=10))
def test_no_line_is_lost(folders: dict[str, Path], lines: list[bytes]) -> None:
    for name in ("XmodForSequenceClassification", "XmodForTokenClassification", "XmodForQuestionAnswering"):
        _once(folders[name], lines, ".jsonl", default_language="de")


@_QUICK
@given(lines=st.lists(_LINES, max_size=8))
def test_every_format_takes_them(topic: Path, lines: list[bytes]) -> None:
    for suffix in (".csv", ".parquet"):
        _once(topic, lines, suffix, default_language="de")


@settings(parent=_QUICK, max_examples=15)
@given(texts=st.lists(_TEXTS.filter(lambda text: text.strip() and text.isprintable()), min_size=1, max_size=6))
def test_any_text_is_identified_as_something(topic: Path, texts: list[str]) -> None:
    found = Predictor(_model(topic), identify=True)(texts)
    assert all(row["adapter"] in _model(topic).languages for row in found)


def test_a_million_characters(folders: dict[str, Path], tmp_path: Path) -> None:
    long = "Die Ärztin öffnet das alte Haus. " * 31_250
    rows = [{"text": long}, {"text": "x" * 1_000_000}, {"text": "kurz"}, {"text": long[:-1]}]
    source = tmp_path / "de.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = predict(folders["XmodForSequenceClassification"], source, tmp_path / "out.jsonl")
    assert (done.rows, done.bad) == (4, 0)
    assert [row["text"] for row in read_lines(tmp_path / "out.jsonl")] == [row["text"] for row in rows]
