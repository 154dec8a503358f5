"""A folder that is no model but has models in it, such as the runs of several seeds: every verb names one to give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import xmodular
from xmodular import cli
from xmodular.errors import ConfigurationError
from xmodular.options import VERBS as ALL_VERBS

# Each verb with the options that it needs, and the one that is a model.
VERBS: dict[str, dict[str, Any]] = {
    "pretrain": {"text": "text"},
    "donors": {"text": "text"},
    "extend": {"language": "gsw", "text": "text"},
    "finetune": {"train": "rows.jsonl", "language": "en"},
    "predict": {"input": "rows.jsonl"},
    "embed": {"input": "rows.jsonl"},
    "serve": {},
    "fill_mask": {"text": "a <mask>", "language": "en"},
    "export": {"output": "out"},
    "pack_save": {"language": "en"},
    "pack_install": {"pack": "pack"},
    "pack_verify": {"pack": "pack"},
    "pack_remove": {"language": "en"},
    "diff": {"b": "pack"},
    "convert": {"to": "fairseq"},
    "upcycle": {"languages": "en"},
    "trim": {"languages": "en"},
}
NAMED = {"diff": "a", "convert": "source"}
OUTPUTS = ("pretrain", "extend", "finetune", "pack_save", "convert", "upcycle", "trim")


@pytest.fixture
def files(base_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of several seeds in ``one``, runs of one in ``runs``, and what the verbs read."""
    monkeypatch.chdir(tmp_path)
    for name in ("one/seed-5", "one/seed-7", "runs/topic", "runs/names", "text"):
        Path(name).mkdir(parents=True)
        (Path(name) / "config.json").write_text("{}")
    (Path("one") / "seeds.json").write_text("{}")
    Path("text/de_DE.txt").write_text("das Haus\n" * 50)
    Path("rows.jsonl").write_text('{"text": "a", "label": "b"}\n' * 20)
    base_run.model.save_language("en_XX", "pack")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("one", "one contains a model for each seed: choose one, such as one/seed-5."),
        ("runs", "runs contains no model, but folders with models: choose one, such as runs/names."),
    ],
)
@pytest.mark.usefixtures("files")
def test_a_folder_of_models_asks_for_one(verb: str, place: str, said: str) -> None:
    given = VERBS[verb] | {NAMED.get(verb, "model"): place} | ({"output_dir": "out"} if verb in OUTPUTS else {})
    with pytest.raises(ConfigurationError) as raised:
        getattr(xmodular, verb)(**given)
    assert said in str(raised.value)
    (options,) = [each for each in ALL_VERBS if each.verb == verb.replace("_", " ").replace("fill ", "fill-")]
    positional = [name for name, each in options.__dataclass_fields__.items() if each.metadata["positional"]]
    words = [word for name, value in given.items() if name not in positional for word in (f"--{name}", value)]
    words = [*options.verb.split(), *(given[name] for name in positional), *words]
    run = CliRunner().invoke(cli.app, [word.replace("_", "-") if word[:2] == "--" else word for word in words])
    assert run.exit_code == 2
    assert said in run.stderr
    assert not Path("out").exists()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", ["Predictor", "MtebEncoder"])
def test_a_predictor_and_an_encoder_ask_too(name: str) -> None:
    if name == "MtebEncoder":
        pytest.importorskip("mteb", reason="the extra mteb is not installed")
    with pytest.raises(ConfigurationError, match="choose one, such as one/seed-5"):
        getattr(xmodular, name)("one")
