"""Tokens are read by the adapter of the language of their own word; users' identifiers are asked, and checked."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import xmodular
from tests.prediction.conftest import LANGUAGES, SENTENCES
from xmodular import Predictor, SpanIdentifier, XmodForMaskedLM, fill_mask, predict
from xmodular.errors import ConfigurationError, DataError, InputError, LanguageError
from xmodular.flags import gathered
from xmodular.identification import Identified, OwnIdentifier, Span
from xmodular.options import FillMaskOptions

GERMAN, RUSSIAN = SENTENCES["de_DE"][0], SENTENCES["ru_RU"][0]
MIXED = f"{GERMAN} {RUSSIAN}"


def halves(texts: Sequence[str]) -> list[list[tuple[int, int, str, float]]]:
    """Every text's first half German, the rest Russian."""
    return [[(0, len(t) // 2, "de", 0.9), (len(t) // 2, len(t), "rus_Cyrl", 0.8)] for t in texts]


class Halves:
    spans = staticmethod(halves)


def logits_of(predictor: Predictor, text: str, codes: Sequence[str]) -> torch.Tensor:
    """The model run on a text with the adapter of each token given by hand."""
    ids = predictor.tokenizer()(text, return_tensors="pt")["input_ids"]
    lang_ids = torch.tensor([[predictor.model.languages.index(code) for code in codes]])
    with torch.inference_mode():
        return predictor.model.eval()(ids, lang_ids=lang_ids).logits[0].softmax(-1)


def test_a_text_is_read_as_with_lang_ids_given_by_hand(topic: Path) -> None:
    predictor = Predictor(topic, identify="spans", probabilities=True)
    (row,) = predictor([MIXED])
    assert [(s["start"], s["end"], s["language"], s["adapter"]) for s in row["language_spans"]] == [
        (0, len(GERMAN), "de_DE", "de_DE"),
        (len(GERMAN) + 1, len(MIXED), "ru_RU", "ru_RU"),
    ]
    assert row["language"] == row["adapter"] == "de_DE"  # of most characters
    german, whole = (len(predictor.tokenizer()(text)["input_ids"]) for text in (GERMAN, MIXED))
    codes = ["de_DE"] * (german - 1) + ["ru_RU"] * (whole - german) + ["de_DE"]
    by_hand = logits_of(predictor, MIXED, codes)
    assert list(row["probabilities"].values()) == pytest.approx(by_hand.tolist(), abs=1e-5)
    alone = logits_of(predictor, MIXED, ["de_DE"] * whole)
    assert (by_hand - alone).abs().max() > 1e-3


def test_a_batch_of_mixed_and_plain_rows_is_read_as_one_by_one(topic: Path) -> None:
    predictor = Predictor(topic, identify="spans")
    rows = [MIXED, GERMAN, {"text": MIXED, "language": "sw"}, "12", f"{RUSSIAN} {GERMAN} {RUSSIAN}", RUSSIAN]
    together = predictor(rows)
    for row, one in zip(rows, together, strict=True):
        (alone,) = predictor([row])
        assert alone.pop("score") == pytest.approx(one["score"], abs=1e-5)
        assert alone == {name: value for name, value in one.items() if name != "score"}
    assert together[2]["language_spans"] == []
    assert together[2]["adapter"] == "sw_KE"
    plain = Predictor(topic)([{"text": GERMAN, "language": "de"}])[0]
    assert together[1]["score"] == pytest.approx(plain["score"], abs=1e-5)


def test_words_to_tag_are_read_by_their_own_adapters(folders: dict[str, Path]) -> None:
    predictor = Predictor(folders["XmodForTokenClassification"], identify="spans", probabilities=True)
    words = MIXED.split()
    (row,) = predictor([{"words": words}])
    assert [span["language"] for span in row["language_spans"]] == ["de_DE", "ru_RU"]
    counts = [len(ids) - 2 for ids in predictor.tokenizer()(words)["input_ids"]]
    adapters = ["de_DE"] * len(GERMAN.split()) + ["ru_RU"] * len(RUSSIAN.split())
    inner = [code for code, count in zip(adapters, counts, strict=True) for _ in range(count)]
    by_hand = logits_of(predictor, MIXED, ["de_DE", *inner, "de_DE"])
    starts = [1 + sum(counts[:place]) for place in range(len(words))]
    for start, probabilities in zip(starts, row["probabilities"], strict=True):
        assert list(probabilities.values()) == pytest.approx(by_hand[start].tolist(), abs=1e-5)
    # In windows too, each token keeps its adapter.
    short = Predictor(predictor.model, predictor.tokenizer(), identify=Halves(), max_length=12, stride=4)
    encoded = short.encode(list(_examples(short, [{"words": words}])))
    for encoding in encoded.windows[0]:
        assert len(encoding.adapters[0]) == len(encoding.sequences[0])
        assert set(encoding.adapters[0]) <= {"de_DE", "ru_RU"}
    assert len(encoded.windows[0]) > 1


def _examples(predictor: Predictor, rows: list[Any]) -> Any:
    from xmodular.rows import BadRows, memory_rows
    from xmodular.tasks.examples import examples

    return examples(predictor.task, memory_rows(rows, BadRows(), texts=True), BadRows(), columns={}, gold=False)


@pytest.mark.parametrize(
    ("name", "row", "texts"),
    [
        ("regress", (GERMAN, RUSSIAN), 2),
        ("XmodForQuestionAnswering", {"question": RUSSIAN, "context": f"{GERMAN} {RUSSIAN} " * 8}, 2),
        ("XmodForMultipleChoice", {"premise": MIXED, "choices": [GERMAN, RUSSIAN]}, 4),
    ],
)
def test_all_tasks(folders: dict[str, Path], name: str, row: Any, texts: int) -> None:
    """Each token has the adapter of the word that it is a piece of."""
    predictor = Predictor(folders[name], identify="spans")
    (found,) = predictor([row])
    assert {span["text"] for span in found["language_spans"]} == set(range(texts))
    tokenizer = predictor.tokenizer()
    alphabets = {"de_DE": "LATIN", "ru_RU": "CYRILLIC"}
    for encoding in predictor.encode(list(_examples(predictor, [row]))).windows[0]:
        for ids, codes in zip(encoding.sequences, encoding.adapters, strict=True):
            assert len(ids) == len(codes)
            for piece, code in zip(tokenizer.convert_ids_to_tokens(ids), codes, strict=True):
                scripts = {s for s in map(xmodular.identification.words.script_of, piece) if s}
                assert piece in tokenizer.all_special_tokens or scripts <= {alphabets[code]}, (piece, code)


def test_masks_are_filled_by_the_adapter_of_their_place(folders: dict[str, Path]) -> None:
    text = "Die Ärztin öffnet das <mask> Haus am Fluss. Она любит <mask> и рынок."
    fillings = fill_mask(folders["XmodForMaskedLM"], text, identify="spans", top_k=1)
    assert [filling.adapter for filling in fillings] == ["de_DE", "ru_RU"]
    given = fill_mask(folders["XmodForMaskedLM"], text, language="de", top_k=1)
    assert [filling.adapter for filling in given] == ["de_DE"] * 2
    assert given[1].probability != pytest.approx(fillings[1].probability, abs=1e-6)
    with pytest.raises(ConfigurationError, match="--language"):
        fill_mask(folders["XmodForMaskedLM"], text)


@pytest.mark.parametrize(("language", "expected"), [(None, "en_XX"), ("sw", "sw_KE")])
def test_a_mask_without_known_words_is_filled_by_the_default(
    folders: dict[str, Path], language: str | None, expected: str
) -> None:
    model = XmodForMaskedLM.from_pretrained(folders["XmodForMaskedLM"])
    model.config.task_language = None  # as after pretraining
    (filling,) = fill_mask(model, "12 <mask> 34", identify="spans", language=language, top_k=1)
    assert filling.adapter == expected


def test_an_identifier_that_fails_is_named(topic: Path) -> None:
    def broken(texts: list[str]) -> list[str]:
        raise KeyError("scores")

    with pytest.raises(InputError, match="broken failed: KeyError: 'scores'"):
        Predictor(topic, identify=broken)(["Haus"])


def test_a_language_with_a_vocabulary_of_its_own_is_not_mixed_in() -> None:
    from xmodular.tasks.readers import Readers

    class Model:
        languages = LANGUAGES

        class config:
            default_language, task_language, vocabularies = None, "en_XX", ("ru_RU",)

    from xmodular.tasks import Example

    (reading,) = Readers(Model, None, identify="spans", threshold=0.3, fallback=None).of(  # type: ignore[arg-type]
        [Example((MIXED,), None, "")]
    )
    assert [(span.language, span.adapter) for span in reading.spans] == [("de_DE", "de_DE"), ("ru_RU", "de_DE")]
    assert not reading.is_mixed


def shout(texts: list[str]) -> list[Any]:
    return [("__label__deu_Latn", 0.9) if "Haus" in text else None for text in texts]


@pytest.mark.parametrize(
    "answer",
    [
        "de",
        "German",
        ("deu_Latn", 1),
        ["__label__deu_Latn", 0.7],
        Identified("de_DE", 0.7),
        {"__label__deu_Latn": 0.5, "de": 0.3, "rus_Cyrl": 0.4},
    ],
)
def test_a_function_of_the_user(topic: Path, answer: Any) -> None:
    (row,) = Predictor(topic, identify=lambda texts: [answer] * len(texts))(["Haus"])
    assert row["adapter"] == row["language"] == "de_DE"
    assert row["confidence"] >= 0.7
    assert "language_spans" not in row


@pytest.mark.parametrize("answer", [None, ("de", 0.1), ("pol_Latn", 0.9), ("und", 0.9), {}, (None, 0.0), "Polish"])
def test_a_function_that_abstains(topic: Path, answer: Any) -> None:
    predictor = Predictor(topic, identify=lambda texts: [answer] * len(texts), default_language="sw")
    (row,) = predictor(["Haus"])
    assert (row["adapter"], row["language"]) == ("sw_KE", None)
    assert predictor.adapters.unsure == 1


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["de"], "returned 1 answers for 2 texts"),
        ("de", "must be a list of answers"),
        ({"de": 1.0}, "must be a list of answers"),
        (None, "must be a list of answers"),
        (["de", ("de", math.nan)], "for text 1: it must be a confidence from 0 to 1"),
        (["de", ("de", 7)], "a confidence from 0 to 1"),
        (["de", ("de", "sure")], "a confidence from 0 to 1"),
        (["de", "xx1"], "answered 'xx1' for text 1: it must be the code or name of a language"),
        (["de", 3.0], "a label, a pair of label and confidence, or None"),
        (["de", (5, 0.5)], "a text as a label"),
        (["de", ("de", 0.5, 1)], "a label, a pair"),
    ],
)
def test_a_function_that_answers_wrongly(topic: Path, answers: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Predictor(topic, identify=lambda texts: answers)(["Haus", "Haus am Fluss"])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([(0, 99, "de", 0.5)], "within the 4 characters of the text"),
        ([(2, 3, "de", 0.5), (1, 4, "de", 0.5)], "in order"),
        ([(2, 2, "de", 0.5)], "in order"),
        ([(0, 3, "de")], r"must be \(start, end, label, confidence\)"),
        ([(0, 3, "nowhere", 0.5)], "the code or name of a language"),
        ([(0, 3, "de", math.nan)], "a confidence from 0 to 1"),
        ("de", "a list of"),
    ],
)
def test_parts_that_are_wrong(topic: Path, parts: Any, message: str) -> None:
    class Wrong:
        def spans(self, texts: list[str]) -> list[Any]:
            return [parts for _ in texts]

    with pytest.raises(InputError, match=message):
        Predictor(topic, identify=Wrong())(["Haus"])


def test_parts_of_the_user(topic: Path) -> None:
    (row,) = Predictor(topic, identify=Halves())([MIXED])
    assert [(s["language"], s["confidence"]) for s in row["language_spans"]] == [("de_DE", 0.9), ("ru_RU", 0.8)]
    (row,) = Predictor(topic, identify=Halves(), threshold=0.85, default_language="sw")([MIXED])
    assert [(s["language"], s["adapter"]) for s in row["language_spans"]] == [("de_DE", "de_DE"), (None, "de_DE")]
    made = OwnIdentifier(Halves(), LANGUAGES)
    assert made.spans(["abcd"]) == [[Span(0, 2, "de_DE", 0.9), Span(2, 4, "ru_RU", 0.8)]]


def test_names(topic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_identifiers.py").write_text(
        "def german(texts):\n    return ['de' for _ in texts]\nclass Halves:\n    def spans(self, texts):\n"
        "        return [[(0, len(text), 'de', 0.9)] for text in texts]\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert Predictor(topic, identify="own_identifiers:german")(["Врач"])[0]["adapter"] == "de_DE"
    assert Predictor(topic, identify="own_identifiers:Halves")(["Врач"])[0]["language_spans"][0]["adapter"] == "de_DE"
    assert sys.path == before
    assert Predictor(topic, identify="py3langid")([GERMAN])[0]["adapter"] == "de_DE"
    for name, message in (
        ("nonsense", "must be py3langid, spans, fasttext:<file>"),
        ("no_such_module:f", "no_such_module"),
        ("own_identifiers:french", "french"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            Predictor(topic, identify=name)
    with pytest.raises(DataError, match=r"no model of fastText at .*none.bin"):
        Predictor(topic, identify="glotlid:none.bin")
    with pytest.raises(ConfigurationError, match="a function of texts"):
        Predictor(topic, identify=7)  # type: ignore[arg-type]


def test_only_some_languages_are_identified(topic: Path) -> None:
    for identify in (True, "spans", lambda texts: ["ru"] * len(texts)):
        predictor = Predictor(topic, identify=identify, identify_languages=["de", "Swahili"], threshold=0.0)
        assert predictor([RUSSIAN])[0]["language"] in (None, "de_DE", "sw_KE")
    with pytest.raises(LanguageError, match="'fr'"):
        Predictor(topic, identify="spans", identify_languages=["fr"])
    with pytest.raises(ConfigurationError, match="identify_languages needs identify"):
        Predictor(topic, identify_languages=["de"])


def test_from_the_command_line(topic: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from xmodular.cli import app

    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": MIXED}) + "\n")

    def run(*flags: str) -> Any:
        output = tmp_path / "out.jsonl"
        words = ["predict", "--model", str(topic), "--input", str(tmp_path / "rows.jsonl"), "--output", str(output)]
        result = CliRunner().invoke(app, [*words, "--overwrite", *flags])
        return json.loads(output.read_text()) if result.exit_code == 0 else result.output

    spans = run("--identify", "spans", "--identify-languages", "de,ru")
    assert [span["adapter"] for span in spans["language_spans"]] == ["de_DE", "ru_RU"]
    for flags in (("--identify",), ("--identify", "--threshold", "0.1"), ("--identify=py3langid",)):
        row = run(*flags)
        assert row["confidence"] > 0
        assert "language_spans" not in row
    assert "confidence" not in run("--no-identify", "--language", "de")
    assert "cannot be used together" in run("--identify", "--no-identify")
    assert "takes one value" in run("--identify", "spans", "py3langid")


def test_a_run_with_a_function_of_the_user_is_recorded_by_its_name(topic: Path, tmp_path: Path) -> None:
    predict(topic, [{"text": GERMAN}], tmp_path / "out", shard_rows=1, identify=shout)
    journal = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert journal["run"]["identify"] == "tests.prediction.test_routing_of_words:shout"


def test_threads_share_a_predictor(topic: Path) -> None:
    predictor = Predictor(topic, identify="spans")
    rows = [MIXED, GERMAN, f"{RUSSIAN} {GERMAN}"]
    alone = predictor(rows)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(predictor, [rows] * 6):
            assert [row["language_spans"] for row in found] == [row["language_spans"] for row in alone]
            assert [row["score"] for row in found] == pytest.approx([row["score"] for row in alone], abs=1e-6)


def test_fasttext(tmp_path: Path, topic: Path) -> None:
    fasttext = pytest.importorskip("fasttext")
    assert fasttext
    damaged = tmp_path / "model.bin"
    damaged.write_bytes(b"no model")
    with pytest.raises(DataError, match="is not a model of fastText"):
        Predictor(topic, identify=f"fasttext:{damaged}")


def test_known_and_unknown_of_both() -> None:
    spans = SpanIdentifier(["de_DE", "gsw"])
    assert (spans.known, spans.unknown) == (("de_DE",), ("gsw",))


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl.gz"])
def test_formats(topic: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out.{suffix}"
    predict(topic, [{"text": MIXED}, {"text": "12"}, {"text": GERMAN, "language": "de"}], output, identify="spans")
    (expected, *_), rows = Predictor(topic, identify="spans")([MIXED]), read(output)
    found = [json.loads(each) if isinstance(each, str) else list(each) for each in (r["language_spans"] for r in rows)]
    assert found == [expected["language_spans"], [], []]


def read(path: Path) -> list[dict[str, Any]]:
    from xmodular.rows import BadRows, read_rows

    return [dict(row.values) for row in read_rows(path, BadRows())]


@pytest.mark.parametrize(
    ("words", "gathered_words"),
    [
        (["--identify", "Habari <mask>?"], ["--identify=true", "Habari <mask>?"]),
        (["--identify", "spans", "Habari <mask>?"], ["--identify=spans", "Habari <mask>?"]),
        (["--identify", "own:names", "Habari <mask>?"], ["--identify=own:names", "Habari <mask>?"]),
    ],
)
def test_a_text_is_not_taken_for_the_name_of_an_identifier(words: list[str], gathered_words: list[str]) -> None:
    assert gathered(words, FillMaskOptions) == gathered_words
