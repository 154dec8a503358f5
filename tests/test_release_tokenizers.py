"""Released checkpoints were published without their tokenizer: the catalogue knows where it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import CamembertTokenizer

import xmodular.vocabulary.tokenizer_loading
from tests.kinds import LINES, dense, tokenizer_of
from xmodular import Predictor, fill_mask, finetune, pack_install, pack_save, upcycle
from xmodular.catalogue import RELEASES
from xmodular.configuration import XmodConfig
from xmodular.errors import DataError
from xmodular.pack_verbs.pack_targets import tokenizer_hash
from xmodular.tasks import load_saved
from xmodular.vocabulary import fingerprint, is_with_tokenizer, load_tokenizer


def test_where_each_release_has_its_tokenizer() -> None:
    for release in RELEASES.values():
        own = release.hub_id.startswith("ZurichNLP/")
        assert release.tokenizer == (release.hub_id if own else "FacebookAI/xlm-roberta-base")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that transformers is asked for; what it gives is a small tokenizer."""
    names: list[str] = []

    def give(name: str, **options: Any) -> Any:
        names.append(name)
        return tokenizer_of("unigram")

    monkeypatch.setattr(xmodular.vocabulary.tokenizer_loading.AutoTokenizer, "from_pretrained", give)
    return names


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_by_its_name_and_by_its_configuration(name: str, asked: list[str], tmp_path: Path) -> None:
    release = RELEASES[name]
    load_tokenizer(release.hub_id)
    XmodConfig.preset(name).save_pretrained(tmp_path)
    assert is_with_tokenizer(tmp_path)
    load_tokenizer(tmp_path)
    fewer = XmodConfig.preset(name)
    fewer.languages = [release.languages[0], "mt"]
    fewer.save_pretrained(tmp_path)
    load_tokenizer(tmp_path)
    assert asked == [release.tokenizer] * 3
    other = json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) | {"vocab_size": 250_001}
    (tmp_path / "config.json").write_text(json.dumps(other), encoding="utf-8")
    assert not is_with_tokenizer(tmp_path)
    with pytest.raises(DataError, match=r"neither tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_what_cannot_be_fetched_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(xmodular.vocabulary.tokenizer_loading.AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(DataError, match=r"xlm-roberta-base, the tokenizer of facebook/xmod-base: .*no network"):
        load_tokenizer("facebook/xmod-base")


def test_verbs_take_a_release_without_a_tokenizer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for a release: a small model whose folder holds no tokenizer, which is elsewhere."""
    dense("unigram", "ForMaskedLM", tmp_path / "dense")
    tokenizer_of("unigram").save_pretrained(tmp_path / "tokenizer")
    folder = tmp_path / "release"
    upcycle(tmp_path / "dense", ["en", "de"], output_dir=folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(DataError, match=r"[Nn]o tokenizer"):
        fill_mask(folder, "Alle <mask>", language="de")
    config = XmodConfig.from_pretrained(folder)
    fields = {"vocab_size": config.vocab_size, "hidden_size": config.hidden_size}
    release = dataclasses.replace(
        RELEASES["xmod-base"],
        name="small",
        hub_id="stand/in",
        languages=("en_XX", "de_DE"),
        tokenizer=str(tmp_path / "tokenizer"),
        fields=fields,
    )
    monkeypatch.setitem(RELEASES, "small", release)
    assert fingerprint(load_tokenizer("stand/in")) == fingerprint(tokenizer_of("unigram"))
    assert fill_mask(folder, "Alle <mask>", language="de")
    assert tokenizer_hash(load_saved(folder)) == fingerprint(tokenizer_of("unigram"))
    train = tmp_path / "en_XX.train.jsonl"
    rows = [{"text": LINES[code][:30], "label": code} for code in ("en_XX", "de_DE")] * 4
    train.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    finetune(folder, train, language="en", output_dir=tmp_path / "run", max_steps=1, batch_size=4)
    assert (tmp_path / "run" / "tokenizer.json").is_file()
    assert len(Predictor(tmp_path / "run")(["frei", "free"], "de")) == 2
    more = upcycle(folder, ["en", "mt"], output_dir=tmp_path / "more")
    assert "tokenizer.json" in more.files
    pack_save(tmp_path / "more", "mt", output_dir=tmp_path / "pack")
    pack_install(tmp_path / "pack", folder)
    assert fill_mask(folder, "Alle <mask>", language="mt")


def test_camemberts_pieces_have_camemberts_ids(tmp_path: Path) -> None:
    """Its SentencePiece model lies under the same name as XLM-R's, and its ids are others."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*LINES.values()] * 2),
        model_prefix=str(tmp_path / "sentencepiece.bpe"),
        vocab_size=260,
        minloglevel=2,
    )
    (tmp_path / "sentencepiece.bpe.vocab").unlink()
    names = {"tokenizer_config.json": "tokenizer_class", "config.json": "model_type"}
    values = {"tokenizer_class": "CamembertTokenizer", "model_type": "camembert"}
    text = LINES["fr_XX"]
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "sentencepiece.bpe.model"))
    for name, key in names.items():
        (tmp_path / name).write_text(json.dumps({key: values[key]}), encoding="utf-8")
        found = load_tokenizer(tmp_path)
        assert isinstance(found, CamembertTokenizer)
        assert found(text, add_special_tokens=False)["input_ids"] == [piece + 4 for piece in pieces.encode(text)]
        (tmp_path / name).unlink()
    xlmr = load_tokenizer(tmp_path)
    assert xlmr(text, add_special_tokens=False)["input_ids"] == [piece + 1 for piece in pieces.encode(text)]
