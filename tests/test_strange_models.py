"""Model folders of strangers: nothing in them runs, nothing asks, nothing is drawn in silence."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BertModel

from xmodular import (
    Predictor,
    XmodConfig,
    XmodForSequenceClassification,
    convert,
    diff,
    evaluate,
    extend,
    fill_mask,
    finetune,
    pack_install,
    pack_remove,
    pack_save,
    pack_verify,
    predict,
    pretrain,
    upcycle,
)
from xmodular.configuration import config_content, read_config
from xmodular.errors import XmodularError
from xmodular.saved_models import to_run
from xmodular.tasks import TASKS, load_model, load_saved
from xmodular.training import Run
from xmodular.vocabulary import is_with_tokenizer, load_tokenizer
from xmodular.weights import open_weights

CODE = "import pathlib\n\npathlib.Path({marker!r}).touch()\n\n\nclass Evil:\n    pass\n"
AUTO_MAP = {
    "AutoConfig": "evil.Evil",
    "AutoModel": "evil.Evil",
    "AutoModelForMaskedLM": "evil.Evil",
    "AutoModelForSequenceClassification": "evil.Evil",
    "AutoTokenizer": ["evil.Evil", "evil.Evil"],
}
FAST = {"batch_size": 4, "max_steps": 1, "log_every": 1}


def edit(path: Path, **fields: Any) -> None:
    """Set fields of a JSON file; those that are None go."""
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def another_kind(folder: Path) -> None:
    edit(folder / "config.json", model_type="custom", auto_map=AUTO_MAP)
    edit(folder / "tokenizer_config.json", tokenizer_class=None)


def same_kind(folder: Path) -> None:
    edit(folder / "config.json", auto_map=AUTO_MAP)
    edit(folder / "tokenizer_config.json", tokenizer_class=None)


def own_tokenizer(folder: Path) -> None:
    another_kind(folder)
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})


def a_class_that_asks(name: str) -> Callable[[Path], None]:
    """transformers has classes that look further, in folders below too, and ask there."""

    def poison(folder: Path) -> None:
        another_kind(folder)
        for below in ("question_encoder_tokenizer", "generator_tokenizer"):
            shutil.copytree(folder, folder / below, ignore=shutil.ignore_patterns("*_tokenizer", "*.safetensors"))
        edit(folder / "config.json", question_encoder={"model_type": "custom"}, generator={"model_type": "custom"})
        edit(folder / "tokenizer_config.json", tokenizer_class=name)

    return poison


def an_old_encoder(folder: Path) -> None:
    """What can be made modular, if it were not for the code."""
    sizes = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**sizes, intermediate_size=16)).save_pretrained(folder)
    same_kind(folder)


POISONS: dict[str, Callable[[Path], None]] = {
    "another kind": another_kind,
    "the same kind": same_kind,
    "a tokenizer of its own": own_tokenizer,
    "AutoTokenizer": a_class_that_asks("AutoTokenizer"),
    "RagTokenizer": a_class_that_asks("RagTokenizer"),
    "an old encoder": an_old_encoder,
}


class Listener:
    """A standard input that answers yes, and notes that it was asked."""

    asked = 0

    def readline(self, *_: Any) -> str:
        self.asked += 1
        return "y\n"

    read = readline
    fileno = None

    def isatty(self) -> bool:
        return False


def entries(bad: Path, good: Path, pack: Path, corpus: Path, tmp: Path) -> dict[str, Callable[[], Any]]:
    """Every verb, and every function that loads something, on one folder."""
    train, text = corpus / "topic" / "en_XX.train.jsonl", corpus / "text" / "sw_KE.made.txt"
    changed = {"output_dir": tmp / "changed", "overwrite": True}
    return {
        "pretrain": lambda: pretrain(
            corpus / "text", model=str(bad), output_dir=tmp / "on", block_size=32, overwrite=True, **FAST
        ),
        "pretrain --tokenizer": lambda: pretrain(
            corpus / "text", tokenizer=str(bad), preset="tiny", output_dir=tmp / "new", overwrite=True,
            overrides={"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}, block_size=32, **FAST
        ),
        "extend": lambda: extend(bad, "gsw", text, output_dir=tmp / "gsw", block_size=32, overwrite=True, **FAST),
        "finetune": lambda: finetune(bad, train, language="en", output_dir=tmp / "tuned", overwrite=True, **FAST),
        "evaluate": lambda: evaluate(bad, corpus / "topic", output_dir=tmp / "eval", languages=["en_XX"]),
        "predict": lambda: predict(bad, train, tmp / "out.jsonl", overwrite=True, default_language="en"),
        "fill_mask": lambda: fill_mask(bad, "a <mask>", language="en"),
        "pack_save": lambda: pack_save(bad, "sw", output_dir=tmp / "pack", overwrite=True),
        "pack_install": lambda: pack_install(pack, bad, language="gsw", **changed),
        "pack_verify": lambda: pack_verify(pack, model=bad),
        "pack_remove": lambda: pack_remove(bad, "sw", **changed),
        "diff": lambda: diff(bad, good),
        "diff, the other": lambda: diff(good, bad),
        "convert": lambda: convert(bad, to="fairseq", output_dir=tmp / "fairseq", overwrite=True),
        "convert from": lambda: convert(bad, preset="xmod-base", output_dir=tmp / "converted", overwrite=True),
        "upcycle": lambda: upcycle(bad, ["de", "sw"], output_dir=tmp / "modular", head=False, overwrite=True),
        "upcycle --tokenizer": lambda: upcycle(
            good, ["de"], tokenizer=str(bad), output_dir=tmp / "modular", overwrite=True
        ),
        "Predictor": lambda: Predictor(bad),
        "Predictor's tokenizer": lambda: Predictor(good, bad),
        "from_pretrained": lambda: XmodForSequenceClassification.from_pretrained(bad),
        "XmodConfig": lambda: XmodConfig.from_pretrained(bad),
        "load_tokenizer": lambda: load_tokenizer(bad),
        "is_with_tokenizer": lambda: is_with_tokenizer(bad),
        "load_saved": lambda: load_saved(bad),
        "load_model": lambda: load_model(bad, TASKS["classify"], ["a", "b"]),
        "to_run": lambda: to_run(bad, "fp32"),
        "read_config": lambda: read_config(bad),
        "config_content": lambda: config_content(bad),

        "open_weights": lambda: open_weights(bad).__enter__(),
    }  # fmt: skip


@pytest.mark.parametrize("poison", POISONS)
def test_no_code_of_a_folder_runs_and_nobody_is_asked(
    poison: str,
    base_run: Run,
    topic_run: Run,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    marker = tmp_path / "it ran"
    pack = tmp_path / "swahili"
    pack_save(topic_run.output_dir, "sw", output_dir=pack)
    for source in (base_run, topic_run) if poison == "another kind" else (topic_run,):
        bad = tmp_path / f"bad-{source.output_dir.name}"
        shutil.copytree(source.output_dir, bad, ignore=shutil.ignore_patterns("checkpoints", "blocks", "eval"))
        POISONS[poison](bad)
        for folder in (bad, *(each for each in bad.iterdir() if each.is_dir())):
            (folder / "evil.py").write_text(CODE.format(marker=str(marker)))
        listener = Listener()
        monkeypatch.setattr(sys, "stdin", listener)
        for name, call in entries(bad, topic_run.output_dir, pack, corpus, tmp_path).items():
            with contextlib.suppress(XmodularError):
                call()
            assert listener.asked == 0, name
            assert not marker.exists(), name
        assert "y/N" not in capsys.readouterr().out


def test_what_is_refused_is_named(topic_run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(topic_run.output_dir, bad)
    own_tokenizer(bad)
    for call in (lambda: load_saved(bad), lambda: read_config(bad), lambda: Predictor(bad)):
        with pytest.raises(XmodularError, match="is a custom model"):
            call()
    with pytest.raises(XmodularError, match=r"its own Python code \(auto_map in tokenizer_config"):
        load_tokenizer(bad)
    edit(bad / "tokenizer_config.json", auto_map=None, tokenizer_class="RagTokenizer")
    with pytest.raises(XmodularError, match=r"RagTokenizer.*no fast version"):
        load_tokenizer(bad)
    edit(bad / "tokenizer_config.json", tokenizer_class=None, fast_tokenizer_files=["tokenizer.9.json"])
    with pytest.raises(XmodularError, match=r"tokenizer\.9\.json"):
        load_tokenizer(bad)
