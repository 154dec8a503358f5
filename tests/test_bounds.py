"""What a small file may cost: what it claims, repeats or packs is looked at before memory and time are spent."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import sentencepiece
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from safetensors.torch import load_file
from sentencepiece import sentencepiece_model_pb2
from transformers import BertConfig, BertModel

from tests.support import tiny_model, tiny_options
from tests.test_strange_models import edit
from xmodular import XmodConfig, XmodForMaskedLM, XmodForSequenceClassification, diff, upcycle
from xmodular.configuration import read_config
from xmodular.errors import ConfigurationError, DataError, XmodularError
from xmodular.options import FinetuneOptions, build
from xmodular.options import read_options_file as read_options
from xmodular.rows import BadRows, columns_of, lines, read_rows
from xmodular.rows import parquet as parquet_files
from xmodular.rows.row import first_repeated
from xmodular.tasks import TASKS, examples, load_model, load_saved
from xmodular.text.counts import LineCounts
from xmodular.text.raw_lines import read_file
from xmodular.training import Run
from xmodular.vocabulary import load_tokenizer


@pytest.fixture
def folder(base_run: Run, tmp_path: Path) -> Path:
    """A sound classifier with a tokenizer."""
    path = tmp_path / "model"
    shutil.copytree(base_run.output_dir, path, ignore=shutil.ignore_patterns("checkpoints", "blocks"))
    XmodForSequenceClassification(XmodConfig.from_pretrained(path)).save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_labels": 2**20}, "num_labels is 1048576"),
        ({"num_labels": "2"}, "num_labels is '2'"),
        ({"languages": [f"l{number}" for number in range(10_001)]}, "10,001 codes"),
        ({"languages": ["en_XX"] * 5000}, "duplicates: en_XX"),
        ({"vocabularies": {f"l{number}": 5 for number in range(5000)}}, "'l39', which is not among the languages"),
        ({"adapter_reduction_factor": 1e-300}, "bottleneck would be wider"),
    ],
)
def test_a_configuration_claims_too_much(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as found:
        XmodConfig(**tiny_options(**fields))
    assert len(str(found.value)) < 20_000


@pytest.mark.parametrize(
    "fields",
    [
        {"intermediate_size": 2**22},
        {"vocab_size": 2**23},
        {"max_position_embeddings": 2**23},
        {"num_hidden_layers": 1000},
        {"languages": [f"l{number}" for number in range(5000)]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_model_is_worth_its_weights(fields: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    edit(folder / "config.json", **fields, default_language=None, vocabularies={})
    read_config(folder)  # each number alone is possible
    for call in (
        lambda: XmodForSequenceClassification.from_pretrained(folder),
        lambda: XmodForMaskedLM.from_pretrained(folder, ignore_mismatched_sizes=True),
        lambda: load_saved(folder),
        lambda: load_model(folder, TASKS["classify"], ["a", "b", "c"]),
        lambda: upcycle(folder, ["en", "fi"], output_dir=tmp_path / "out"),
    ):
        if "languages" in fields and call.__code__.co_names[0] == "upcycle":
            continue  # it asks for its own
        with pytest.raises(ConfigurationError, match="do not match"):
            call()


def test_an_old_encoder_is_worth_its_weights(tmp_path: Path) -> None:
    sizes = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**sizes, intermediate_size=16)).save_pretrained(tmp_path / "bert")
    for fields, words in (
        ({"intermediate_size": 2**26}, "has shape"),
        ({"num_hidden_layers": 900}, "weights for 900 layers"),
        ({"num_hidden_layers": 3}, "is missing"),
        ({"num_labels": 2**20}, "at most 32,768 labels"),
    ):
        shutil.copytree(tmp_path / "bert", tmp_path / "other", dirs_exist_ok=True)
        edit(tmp_path / "other" / "config.json", **fields)
        with pytest.raises(XmodularError, match=words):
            upcycle(tmp_path / "other", ["en"], output_dir=tmp_path / "out")


def test_weights_of_pytorch_are_not_packed(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "plain.bin")
    with zipfile.ZipFile(folder / "plain.bin") as plain:
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            with zipfile.ZipFile(folder / "pytorch_model.bin", "w", method) as packed:
                for name in plain.namelist():
                    packed.writestr(name, plain.read(name))
            if method == zipfile.ZIP_STORED:
                load_saved(folder)
                continue
            for call in (load_saved, XmodForSequenceClassification.from_pretrained, lambda path: diff(path, path)):
                with pytest.raises(DataError, match="compressed records"):
                    call(folder)


def replaces(times: int, content: str = "a" * 8) -> dict[str, Any]:
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": content}
    return {"type": "Sequence", "normalizers": [step] * times, "decoders": [step] * times}


SEQUENCE = {"Sequence": {"id": "A", "type_id": 0}}
RULES: dict[str, tuple[dict[str, Any], str]] = {
    "a long text": ({"normalizer": replaces(1, "a" * 1000)}, "1,000 characters at once"),
    "one after another": ({"normalizer": replaces(4)}, "4,096 times as long"),
    "decoded": ({"decoder": replaces(4)}, "4,096 times as long"),
    "groups": (
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}},
        r"expression '\(a\+\)\+\$'",
    ),
    "the text again": (
        {"post_processor": {"type": "TemplateProcessing", "single": [SEQUENCE] * 2, "pair": [], "special_tokens": {}}},
        "a text 2 times",
    ),
    "many tokens beside the pieces": ({"added_tokens": [{}] * 5000}, "5,000 added tokens"),
    "many ids": (
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [SEQUENCE, {"SpecialToken": {"id": "<s>", "type_id": 0}}],
                "pair": [],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0] * 100, "tokens": ["<s>"] * 100}},
            }
        },
        "101 ids from one letter",
    ),
}


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_rules_of_a_tokenizer(name: str, alone: bool, folder: Path) -> None:
    parts, words = RULES[name]
    edit(folder / "tokenizer.json", **parts)
    if alone:
        (folder / "tokenizer_config.json").unlink()
    with pytest.raises(DataError, match=words):
        load_tokenizer(folder)


def test_rules_are_looked_at_before_the_library_runs_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs them on added tokens while it reads the file."""
    content = json.loads((folder / "tokenizer.json").read_text())
    token = {"id": len(content["model"]["vocab"]), "content": "aaa", "normalized": True, "special": False}
    ways = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    edit(folder / "tokenizer.json", normalizer=replaces(6), added_tokens=[*content["added_tokens"], token | ways])
    monkeypatch.setattr("xmodular.vocabulary.tokenizer_loading.AutoTokenizer.from_pretrained", pytest.fail)
    with pytest.raises(DataError, match="262,144 times as long"):
        load_tokenizer(folder)


def test_inside_of_words_and_padding(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    pieces = {piece: number for number, (piece, _) in enumerate(content["model"]["vocab"])}
    words = {"type": "WordPiece", "unk_token": "<unk>", "vocab": pieces, "continuing_subword_prefix": "##"}
    for wrong, told in (
        ({"continuing_subword_prefix": "#" * 5000}, "5,000 characters"),
        ({"max_input_chars_per_word": 10**9}, "max_input_chars_per_word is 1000000000"),
    ):
        edit(folder / "tokenizer.json", model={**words, "max_input_chars_per_word": 100} | wrong)
        with pytest.raises(DataError, match=told):
            load_tokenizer(folder)
    padding = {"strategy": {"Fixed": 5000}, "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"}
    edit(folder / "tokenizer.json", model=content["model"], padding=padding)
    (folder / "tokenizer_config.json").unlink()
    assert len(load_tokenizer(folder).backend_tokenizer.encode("a")) < 10


def test_numbers_of_a_tokenizer(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", tokenizer_class="T5Tokenizer", extra_ids=2**17)
    with pytest.raises(DataError, match="extra_ids 131,072"):
        load_tokenizer(folder)


def test_a_sentencepiece_model_with_a_table_of_long_texts(tmp_path: Path) -> None:
    path = tmp_path / "pieces"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the house is big", "a house"] * 20), model_prefix=str(path), vocab_size=40,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    model = path.with_suffix(".model")
    load_tokenizer(model)
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.read_bytes())
    proto.normalizer_spec.precompiled_charsmap = struct.pack("<I", 4) + bytes(4) + b"x" * 5000 + b"\0"
    model.write_bytes(proto.SerializeToString())
    with pytest.raises(DataError, match="5,000 bytes"):
        load_tokenizer(model)


def repeated(text: str, rows: int) -> Any:
    """A column that says its text once."""
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), pyarrow.array([text]))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """100 rows that name a text of 200 kB, and in a list three times."""
    offsets = pyarrow.array(range(0, 301, 3), pyarrow.int32())
    words = pyarrow.ListArray.from_arrays(offsets, repeated("w" * 200_000, 300))
    content = pyarrow.table({"text": repeated("t" * 200_000, 100), "n": list(range(100)), "words": words})
    path = tmp_path / "en.parquet"
    with parquet.ParquetWriter(path, content.schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(content)
    assert path.stat().st_size < 20_000
    return path


def test_texts_that_parquet_names_again_and_again(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more of them at once than fits, and the rows are those of the file."""
    monkeypatch.setattr(parquet_files, "_MOST_BYTES_A_STEP", 2_500_000)
    sizes = []
    whole = parquet_files.values_of
    monkeypatch.setattr(parquet_files, "values_of", lambda batch: sizes.append(batch.num_rows) or whole(batch))
    found = [row.values for row in read_rows(table, BadRows())]
    assert found == parquet.read_table(table).to_pylist()
    assert max(sizes) * 800_000 <= 2_500_000
    lines_found = [line for line in read_file(table, "text", LineCounts(), 300_000) if line]
    assert lines_found == ["t" * 200_000] * 100
    parts = list(parquet_files.parquet_tables([table], (), [60, 40]))
    assert pyarrow.concat_tables(parts).equals(parquet.read_table(table))
    monkeypatch.setattr(parquet_files, "_MOST_BYTES_A_STEP", 100)
    monkeypatch.setattr(parquet_files, "_MOST_BYTES_A_ROW", 700_000)
    with pytest.raises(DataError, match="texts of 800,000 bytes"):
        list(read_rows(table, BadRows()))


@pytest.mark.parametrize("limit", ["_MOST_UNPACKED", "_MOST_INSIDE"])
def test_what_parquet_claims(limit: str, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, limit, (10, 0))
    for call in (lambda: list(read_rows(table, BadRows())), lambda: list(read_file(table, "text", LineCounts(), 100))):
        with pytest.raises(DataError, match="claims"):
            call()


@pytest.mark.parametrize("content", [b"[" + b"[]," * 6_000_000 + b"[]]", b"[" + b" " * 40_000_000 + b"]"])
def test_packed_json_that_is_read_whole(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "en.json.gz"
    path.write_bytes(gzip.compress(content, 1))
    with pytest.raises(DataError, match="decompress to far more"):
        list(read_rows(path, BadRows(skip=True)))
    path.write_bytes(gzip.compress(b'[{"text": "a", "label": "b"}]' + b" " * 10_000))
    assert [row.values for row in read_rows(path, BadRows())] == [{"text": "a", "label": "b"}]


@pytest.mark.parametrize(("name", "limit"), [("_MOST_ROWS", (50, 10**9)), ("_MOST_TEXT", (500, 0))])
def test_rows_that_are_to_be_in_memory(
    name: str, limit: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, name, limit)
    path = tmp_path / "en.jsonl.gz"
    row = b'{"text": "ten words..", "label": "b"}\n'
    path.write_bytes(gzip.compress(row * 40))
    assert len(examples.load(TASKS["classify"], path)) == 40
    path.write_bytes(gzip.compress(row * 60))
    with pytest.raises(DataError, match="compressed in them"):
        examples.load(TASKS["classify"], path)


@given(st.lists(st.sampled_from("abcdef"), max_size=8))
def test_the_first_name_that_is_there_twice(names: list[str]) -> None:
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    assert first_repeated(names) == (twice[0] if twice else None)


def test_a_message_does_not_name_every_column() -> None:
    shown = columns_of({f"column {number}": "" for number in range(30_000)})
    assert shown.startswith("'column 0'")
    assert shown.endswith("29,940 more")
    assert len(shown) < 3000


def test_a_packed_line_is_no_longer_than_what_memory_holds() -> None:
    assert lines.LONGEST_LINE <= 2**25


BOMB = "- &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"- &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 6)
)
OPTIONS: dict[str, tuple[str, str]] = {
    "a list": (BOMB, "references are expanded"),
    "a value": (f"epochs:\n{BOMB}", "references are expanded"),
    "itself": ("epochs: &a [*a]", "references are expanded"),
    "long texts": (f"- &a {'x' * 50_000}\n- [{', '.join(['*a'] * 100)}]", "references are expanded"),
    "a day that there is not": ("epochs: 2001-99-99", "cannot be read"),
    "a number without end": ("epochs: " + "9" * 5000, "cannot be read"),
    "nested": ("epochs: " + "[" * 3_000, "cannot be read"),
    "a large file": ("# " + "x" * 300_000, "larger than"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_files_of_options(name: str, tmp_path: Path) -> None:
    text, words = OPTIONS[name]
    path = tmp_path / "options.yaml"
    path.write_text(text)
    read: Callable[[], Any] = lambda: build(FinetuneOptions, read_options(path))  # noqa: E731
    with pytest.raises(ConfigurationError, match=words) as found:
        read()
    assert len(str(found.value)) < 1000


def test_sound_files_pass(folder: Path) -> None:
    assert tiny_model(XmodForMaskedLM).config.num_labels == 2
    load_saved(folder)
    load_tokenizer(folder)
