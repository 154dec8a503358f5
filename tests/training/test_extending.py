"""Adding a language: it learns, nothing else moves, and it leaves as a pack."""

import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, TrainingArguments

from tests.conftest import LANGUAGES, sentence
from tests.support import assert_same_state
from xmodular import diff, extend, finetune, pretrain
from xmodular.errors import ConfigurationError, DataError, LanguageError, TrainingError
from xmodular.modeling import XmodForMaskedLM
from xmodular.pieces import start_rows
from xmodular.tasks import load_saved
from xmodular.training import growing, trainer
from xmodular.vocabulary import load_tokenizer, train_tokenizer

SMALL = {"block_size": 32, "batch_size": 8, "max_steps": 12, "learning_rate": 5e-3, "dev_fraction": 0.2}


def turned(line: str) -> str:
    """A made-up language: German with its letters turned."""
    return line.translate(str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(5)
    path = tmp_path_factory.mktemp("new") / "gsw.txt"
    path.write_text("".join(turned(sentence("de_DE", draw)) + "\n" for _ in range(200)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def grown(base_run, text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grown") / "gsw"
    return extend(base_run.output_dir, "gsw", text, output_dir=folder, init_from="de=2,en=1", **SMALL)


def test_only_the_new_language_moved(grown, base_run):
    assert grown.model.languages == (*LANGUAGES, "gsw")
    certificate = diff(base_run.output_dir, grown.output_dir)
    assert certificate.added == {"gsw"}
    assert not certificate.changed
    assert not certificate.removed
    stored = json.loads((grown.output_dir / "certificate.json").read_text())
    assert stored["ok"] is True
    adapters = grown.model.roberta.encoder.layer[0].output.adapter_modules
    assert not torch.equal(adapters["gsw"].dense1.weight, adapters["de_DE"].dense1.weight)


def test_it_learns_and_says_so(grown):
    metrics = grown.metrics
    assert metrics["after"]["loss"] < metrics["start"]["loss"]
    assert set(metrics["existing"]) == set(LANGUAGES)
    best = metrics["existing"][metrics["best_existing"]]
    assert best["loss"] == min(values["loss"] for values in metrics["existing"].values())
    assert json.loads((grown.output_dir / "metrics.json").read_text()) == metrics
    # It starts as the weighted average, between its donors and what it becomes.
    again = load_saved(grown.output_dir)
    assert_same_state(again.state_dict(), grown.model.state_dict())


def test_it_leaves_as_a_pack(grown, base_run):
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir)
    assert model.load_language(grown.output_dir / "pack") == "gsw"
    assert_same_state(model.state_dict(), grown.model.state_dict())


@pytest.mark.parametrize("method", ["pieces", "random"])
def test_with_a_vocabulary_of_its_own(base_run, text, tmp_path, method):
    run = extend(
        *(base_run.output_dir, "gsw", text),
        output_dir=tmp_path / "own",
        init_from="de",
        new_vocabulary=120,
        start_rows=method,
        **SMALL,
    )
    assert run.model.config.vocabularies.keys() == {"gsw"}
    assert run.metrics["after"]["loss"] < run.metrics["start"]["loss"]
    assert diff(base_run.output_dir, run.output_dir, allow=["gsw"]).ok
    assert load_tokenizer(run.output_dir).get_vocab() == base_run.tokenizer.get_vocab()
    moved = run.model.roberta.embeddings.words("gsw").weight
    rows, _, _ = start_rows(
        load_tokenizer(tmp_path / "own" / "tokenizer"),
        base_run.tokenizer,
        base_run.model.get_input_embeddings().weight,
        base_run.model.lm_head.bias,
        method=method,
    )
    assert not torch.equal(moved, rows)  # its embeddings trained
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir)
    model.load_language(tmp_path / "own" / "pack")
    assert_same_state(model.state_dict(), run.model.state_dict())


def test_a_vocabulary_that_knows_nothing_is_no_better(base_run, tmp_path, capsys):
    """Greek by letters that the base has none of, and by a vocabulary of its own; both on the same text."""
    draw = random.Random(5)
    greek = str.maketrans("abcdefghijklmnopqrstuvwxyz", "αβγδεζηθικλμνξοπρστυφχψωάέ")
    path = tmp_path / "el.txt"
    path.write_text("".join(sentence("en_XX", draw).translate(greek) + "\n" for _ in range(300)), encoding="utf-8")
    options = {**SMALL, "init_from": "en", "max_steps": 30}
    wrong = extend(base_run.output_dir, "el_GR", path, output_dir=tmp_path / "wrong", **options)
    said = " ".join(capsys.readouterr().err.split())
    assert "the vocabulary does not suit el_GR" in said
    assert "--new-vocabulary" in said
    own = extend(base_run.output_dir, "el_GR", path, output_dir=tmp_path / "own", new_vocabulary=150, **options)
    twin = extend(
        *(base_run.output_dir, "el_GR", path),
        output_dir=tmp_path / "bytes",
        new_vocabulary=150 + 256,
        byte_fallback=True,
        **options,
    )
    bits = [run.metrics["after"]["bits_per_character"] for run in (own, twin, wrong)]
    assert bits[0] < bits[1] * 1.2 < bits[2]
    assert bits[2] > 8
    assert wrong.metrics["after"]["unknown"] > 0.2
    assert own.metrics["after"]["unknown"] < 0.01
    # Before, the base's vocabulary read the same text in both runs.
    for run in (own, twin):
        assert run.metrics["existing"] == wrong.metrics["existing"]
    card = (tmp_path / "wrong" / "pack" / "README.md").read_text(encoding="utf-8")
    assert f"{wrong.metrics['after']['unknown']:.2%}" in card


def test_before_and_after_are_of_one_precision(base_run, text, tmp_path):
    options = {**SMALL, "max_steps": 2, "learning_rate": 1e-12}
    run = extend(base_run.output_dir, "gsw", text, output_dir=tmp_path, init_from="de", precision="bf16", **options)
    assert run.metrics["after"]["loss"] == pytest.approx(run.metrics["existing"]["de_DE"]["loss"], rel=1e-6)


def test_everything_may_train(base_run, text, tmp_path):
    run = extend(base_run.output_dir, "gsw", text, output_dir=tmp_path / "all", trainable="all", **SMALL)
    certificate = diff(base_run.output_dir, run.output_dir)
    assert {"encoder", "embeddings"} <= certificate.changed
    # The adapters of languages that are not read have no gradient, whatever trains.
    assert not set(LANGUAGES) & certificate.changed


def test_a_broken_run_goes_on(base_run, text, tmp_path, monkeypatch):
    small = {**SMALL, "save_every": 4, "init_from": "de"}
    whole = extend(base_run.output_dir, "gsw", text, output_dir=tmp_path / "whole", **small)

    class Broken(Exception):
        pass

    publish = trainer.publish

    def break_off(*arguments, **options):
        publish(*arguments, **options)
        raise Broken

    monkeypatch.setattr(trainer, "publish", break_off)
    with pytest.raises(Broken):
        extend(base_run.output_dir, "gsw", text, output_dir=tmp_path / "broken", **small)
    monkeypatch.undo()
    again = extend(base_run.output_dir, "gsw", text, output_dir=tmp_path / "broken", **small)
    assert_same_state(again.model.state_dict(), whole.model.state_dict())
    assert again.metrics == whole.metrics


@pytest.mark.parametrize("what", ["fingerprint", "diff"])
def test_a_run_without_pack_and_certificate_is_not_finished(base_run, text, tmp_path, monkeypatch, what):
    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    small = {**SMALL, "output_dir": tmp_path / "run", "max_steps": 4, "save_every": 2}
    with monkeypatch.context() as patch:
        patch.setattr(growing, what, no_space)
        with pytest.raises(TrainingError, match=r"could not be written .*No space .*checkpoint-4, is intact"):
            extend(base_run.output_dir, "gsw", text, **small)
    extend(base_run.output_dir, "gsw", text, **small)
    assert json.loads((tmp_path / "run" / "certificate.json").read_text())["ok"] is True
    assert (tmp_path / "run" / "pack").is_dir()


def test_the_first_process_of_all_machines_prepares_folder_and_text(base_run, corpus, text, tmp_path, monkeypatch):
    first, told = TrainingArguments.main_process_first, []

    def noted(self, local=True, desc="work"):
        told.append((local, desc))
        return first(self, local, desc)

    monkeypatch.setattr(TrainingArguments, "main_process_first", noted)
    small = {**SMALL, "max_steps": 1}
    extend(base_run.output_dir, "gsw", text, output_dir=tmp_path / "grown", **small)
    pretrain(corpus / "text", output_dir=tmp_path / "base", tokenizer=base_run.output_dir, preset="tiny", **small)
    assert len(told) >= 4
    assert not [desc for local, desc in told if local]


def test_a_model_object_gets_the_language(base_run, text, tmp_path):
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir)
    run = extend(model, "gsw", text, output_dir=tmp_path / "object", **SMALL)
    assert run.model is model
    assert model.languages[-1] == "gsw"
    assert json.loads((tmp_path / "object" / "certificate.json").read_text())["ok"] is True


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({"language": "de"}, LanguageError, "already has the language de_DE"),
        ({"language": "a b"}, LanguageError, "'a b'"),
        ({"init_from": "klingon"}, LanguageError, "klingon"),
        ({"init_from": "de=x"}, ConfigurationError, "de=x"),
        ({"init_from": "de=1,en"}, ConfigurationError, "de=1,en"),
        ({"init_from": "de=1,de=2"}, ConfigurationError, "twice"),
        ({"text": "nowhere"}, DataError, "nowhere"),
        ({"new_vocabulary": 100, "tokenizer": "x"}, ConfigurationError, "uses an existing one"),
        ({"tokenizer": "nowhere"}, DataError, "nowhere"),
        ({"start_rows": "magic"}, ConfigurationError, "magic"),
        ({"text": __file__}, DataError, "test_extending.py is not a text"),
        ({"dev_text": __file__, "dev_fraction": 0.01}, DataError, "test_extending.py is not a text"),
        ({"dev_fraction": 0.0}, DataError, "no held-out text in gsw"),
        ({"new_vocabulary": 3}, ConfigurationError, "at least 8"),
    ],
)
def test_refusals_come_first(base_run, text, tmp_path, options, error, part):
    given = {"language": "gsw", "text": text, "output_dir": tmp_path / "out", **SMALL, **options}
    with pytest.raises(error, match=part):
        extend(base_run.output_dir, given.pop("language"), given.pop("text"), **given)
    assert not list(tmp_path.glob("out/*.safetensors"))


def test_lines_that_are_dropped_are_shown_and_most_lines_lost_is_an_error(base_run, corpus, text, tmp_path, capsys):
    lines = [f"{turned(line)} žluťoučký\n" for line in text.read_text(encoding="utf-8").splitlines()]
    path = tmp_path / "cs.txt"
    path.write_bytes("".join(lines[:150]).encode() + "".join(lines[150:]).encode("latin2") + b"\n" * 7)
    run = extend(base_run.output_dir, "cs", path, output_dir=tmp_path / "run", **{**SMALL, "max_steps": 1})
    assert run.metrics["steps"] == 1
    table = capsys.readouterr().err
    assert [cell.strip() for cell in next(line for line in table.splitlines() if "│ cs " in line).split("│")[1:-1]] == [
        *("cs", "207", "150", "7", "50")
    ]
    assert "not UTF-8" in table
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "cs.txt").write_bytes("".join(lines[:5]).encode() + "".join(lines[5:]).encode("latin2"))
    (folder / "de.txt").write_text("das Haus\ndie Ärztin\n" * 30, encoding="utf-8")
    for verb in (
        lambda: extend(base_run.output_dir, "cs", folder, output_dir=tmp_path / "x", **SMALL),
        lambda: extend(base_run.output_dir, "cs", path, dev_text=folder, output_dir=tmp_path / "x", block_size=32),
        lambda: pretrain(folder, output_dir=tmp_path / "x", preset="tiny", vocab_size=100, **SMALL),
        lambda: pretrain(folder, output_dir=tmp_path / "x", tokenizer=base_run.output_dir, preset="tiny", **SMALL),
    ):
        with pytest.raises(
            DataError, match=r"195 of 200 lines of cs cannot be read \(195 are not UTF-8\), in .*cs\.txt"
        ):
            verb()
    assert not list((tmp_path / "x").glob("*.safetensors"))


def test_saved_tokenizers_know_the_model_s_length(base_run, topic_run, grown, text, tmp_path):
    own = extend(
        *(base_run.output_dir, "gsw", text), output_dir=tmp_path, new_vocabulary=120, **{**SMALL, "max_steps": 1}
    )
    folders = [run.output_dir for run in (base_run, topic_run, grown, own)]
    for folder in (*folders, tmp_path / "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.model_max_length == base_run.model.config.max_position_embeddings - 2 == 32
    ids = AutoTokenizer.from_pretrained(topic_run.output_dir)("the house " * 50, truncation=True, return_tensors="pt")
    assert ids["input_ids"].shape == (1, 32)
    assert topic_run.model(**ids, lang_ids=torch.tensor([0])).logits.shape[0] == 1


def test_a_task_model_is_refused(topic_run, text, tmp_path):
    with pytest.raises(ConfigurationError, match="pack"):
        extend(topic_run.output_dir, "gsw", text, output_dir=tmp_path)


def test_start_rows_copy_compose_and_draw():
    known = train_tokenizer({"a": ["the house the houses a mouse"] * 20}, 40)
    new = train_tokenizer({"a": ["the houses mouse themouse ж ж ж"] * 20}, 40)
    torch.manual_seed(0)
    words, bias = torch.randn(len(known) + 3, 6), torch.randn(len(known) + 3)
    rows, own, counts = start_rows(new, known, words, bias)
    vocabulary, there = new.get_vocab(), known.get_vocab()
    assert sum(counts.values()) == len(new) == len(rows) == len(own)
    both = set(vocabulary) & set(there)
    assert counts["copied"] == len(both) > 5
    for piece in both:
        assert torch.equal(rows[vocabulary[piece]], words[there[piece]])
        assert own[vocabulary[piece]] == bias[there[piece]]
    composed = 0
    for piece in set(vocabulary) - both:
        parts = [token.id for token in known.backend_tokenizer.model.tokenize(piece)]
        if parts := [part for part in parts if part != known.unk_token_id]:
            torch.testing.assert_close(rows[vocabulary[piece]], words[parts].mean(0))
            composed += 1
    assert composed == counts["composed"] > 0
    _, _, counts = start_rows(new, known, words, bias, method="random")
    assert counts["composed"] == 0
    assert counts["random"] == len(new) - len(both)
    with pytest.raises(ConfigurationError, match="magic"):
        start_rows(new, known, words, bias, method="magic")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_model_is_not_written_over_by_its_own_run(base_run, corpus, text, tmp_path, overwrite):
    folder = tmp_path / "model"
    base_run.model.save_pretrained(folder)
    base_run.tokenizer.save_pretrained(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ConfigurationError, match=r"is the source .* itself"):
        extend(folder, "gsw", text, output_dir=folder, overwrite=overwrite, **SMALL)
    train = corpus / "topic" / "en_XX.train.jsonl"
    with pytest.raises(ConfigurationError, match=r"is the source .* itself"):
        finetune(folder, train, language="en", output_dir=folder, overwrite=overwrite)
    with pytest.raises(ConfigurationError, match="contains a model"):
        finetune(base_run.output_dir, train, language="en", output_dir=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_adapter_for_pieces_of_its_own_is_no_start_for_shared_ones(base_run, text, tmp_path, capsys):
    """A copied adapter brings its vocabulary, but text and pairs are read in pieces of the shared one."""
    own, pairs = {"new_vocabulary": 80, **SMALL, "max_steps": 2}, tmp_path / "pairs.tsv"
    lines = text.read_text(encoding="utf-8").splitlines()
    pairs.write_text("de\ttt\tgsw\n" + "".join(f"{turned(each)}\t{each}\t{each}\n" for each in lines), encoding="utf-8")
    grown = tmp_path / "grown"
    extend(base_run.output_dir, "tt", text, output_dir=grown, **own)
    for language, how in (("gsw", {"parallel": pairs}), ("gsw", {"text": text}), ("tt", {"text": text})):
        out = {"output_dir": tmp_path / "refused", "replace": language == "tt", **how}
        with pytest.raises(ConfigurationError, match="names tt, whose adapter reads its own vocabulary"):
            extend(grown, language, init_from="Tatar", **out)
        assert not (tmp_path / "refused").exists()
    run = extend(grown, "gsw", text, init_from="tt", output_dir=tmp_path / "copied", **own)
    assert run.model.config.vocabularies.keys() == {"tt", "gsw"}
    capsys.readouterr()
    run = extend(grown, "tt", parallel=pairs, replace=True, max_steps=2, block_size=32, output_dir=tmp_path / "shared")
    assert not run.model.config.vocabularies
    assert "tt loses its own vocabulary" in " ".join(capsys.readouterr().err.split())
    assert diff(grown, tmp_path / "shared").changed == {"tt"}
