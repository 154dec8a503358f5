"""A run goes on only with what it began with: text, tokenizer, base; with `overwrite` it begins anew."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import MINIATURE
from xmodular import XmodForMaskedLM
from xmodular.errors import ConfigurationError
from xmodular.training import extend, finetune, pretrain
from xmodular.training.checkpoints import damage, intact_checkpoint, last_checkpoint
from xmodular.training.trainer import RoutedTrainer

SMALL = {"block_size": 32, "batch_size": 4, "max_steps": 4, "save_every": 2, "log_every": 1, "learning_rate": 3e-3}
VERBS = ("pretrain", "pretrain on", "extend", "finetune")


class Stopped(Exception):
    pass


class Steps(list):
    """The steps that were trained since it was cleared; `limit` stops a run in its middle."""

    limit = None

    def count(self, patch):
        step = RoutedTrainer.training_step

        def counted(trainer, *rest):
            if self.limit is not None and trainer.state.global_step == self.limit:
                raise Stopped
            self.append(trainer.state.global_step)
            return step(trainer, *rest)

        patch.setattr(RoutedTrainer, "training_step", counted)


@pytest.fixture
def steps(monkeypatch):
    """The steps of this test."""
    done = Steps()
    done.count(monkeypatch)
    return done


@pytest.fixture(scope="module")
def data(corpus, base_run, tmp_path_factory):
    """A folder with all that a run reads."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(corpus / "text", folder / "text")
    shutil.copytree(base_run.output_dir, folder / "base", ignore=shutil.ignore_patterns("checkpoints", "blocks"))
    (folder / "gsw.txt").write_text((corpus / "text" / "de_DE.made.txt").read_text().swapcase())
    shutil.copy(corpus / "topic" / "en_XX.train.jsonl", folder / "train.jsonl")
    shutil.copy(corpus / "topic" / "en_XX.dev.jsonl", folder / "dev.jsonl")
    return folder


@pytest.fixture
def place(data, tmp_path, monkeypatch):
    """A copy of that, which may be changed; all names are relative to it."""
    shutil.copytree(data, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def run(verb, **more):
    """A run of four steps, by any of the verbs; its folder."""
    options = {**SMALL, "output_dir": "run", **more}
    if verb == "pretrain":
        made = {"preset": "tiny", "overrides": MINIATURE, "tokenizer": "base", **options}
        pretrain("text", **made)
    elif verb == "pretrain on":
        pretrain("text", model="base", **options)
    elif verb == "extend":
        extend("base", "gsw", "gsw.txt", **{"init_from": "de", **options})
    else:
        options.pop("block_size")
        finetune("base", "train.jsonl", language="en", **options)
    return Path(options["output_dir"])


@pytest.fixture(scope="module")
def stopped_once(data, tmp_path_factory):
    """Makes runs that were stopped in their fourth step, each once."""
    made = {}

    def make(verb, **more):
        key = f"{verb} {more}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp("stopped") / "place"
            shutil.copytree(data, made[key])
            steps = Steps()
            steps.limit = 3
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(made[key])
                steps.count(patch)
                with pytest.raises(Stopped):
                    run(verb, **more)
        return made[key]

    return make


@pytest.fixture
def stopped(stopped_once, steps, tmp_path, monkeypatch):
    """Gives a copy of a stopped run and of what it reads, and goes there."""

    def copied(verb, **more):
        shutil.copytree(stopped_once(verb, **more), tmp_path / "place")
        steps.clear()
        monkeypatch.chdir(tmp_path / "place")
        return Path("run")

    return copied


def reorder(path):
    """The same lines the other way round, as many bytes."""
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))


def flip(path, place=-5):
    """One bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def swap_pieces(folder):
    """Two pieces change places, and so their ids."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    pieces = content["model"]["vocab"]
    pieces[20][0], pieces[21][0] = pieces[21][0], pieces[20][0]
    path.write_text(json.dumps(content), encoding="utf-8")


def scale(folder):
    """The model's epsilon, which no weight shows."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "layer_norm_eps": 1e-3}))


TEXT, BASE = Path("text"), Path("base")
CHANGES = [
    ("pretrain", lambda: reorder(TEXT / "sw_KE.made.txt"), "sw_KE"),
    ("pretrain", lambda: swap_pieces(BASE), "the tokenizer"),
    ("pretrain on", lambda: reorder(TEXT / "en_XX.made.txt"), "en_XX"),
    ("pretrain on", lambda: flip(BASE / "model.safetensors"), "base/model.safetensors"),
    ("pretrain on", lambda: swap_pieces(BASE), "base/tokenizer.json"),
    ("extend", lambda: reorder(Path("gsw.txt")), "gsw"),
    ("extend", lambda: flip(BASE / "model.safetensors"), "base/model.safetensors"),
    ("extend", lambda: scale(BASE), "base/config.json"),
    ("finetune", lambda: flip(BASE / "model.safetensors"), "base/model.safetensors"),
    ("finetune", lambda: swap_pieces(BASE), "base/tokenizer.json"),
    ("finetune", lambda: reorder(Path("train.jsonl")), "train"),
]


@pytest.mark.parametrize(("verb", "change", "named"), CHANGES, ids=[f"{verb}-{named}" for verb, _, named in CHANGES])
def test_what_changed_is_named_before_work(stopped, steps, verb, change, named):
    folder = stopped(verb)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    change()
    said = rf"unfinished run .*have changed \([^)]*{named}.*--overwrite.*--resume"
    with pytest.raises(ConfigurationError, match=said):
        run(verb)
    assert not steps
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_resume_goes_on_all_the_same_and_says_so(stopped, steps, capsys, verb):
    stopped(verb)
    next(change for known, change, _ in CHANGES if known == verb)()
    folder = run(verb, resume=True)
    assert steps == [2, 3]
    assert "Continuing despite a difference" in capsys.readouterr().err
    assert "tokens_read" not in json.loads((folder / "metrics.json").read_text())


def test_the_pieces_of_a_tokenizer_that_the_run_trained_are_kept_too(stopped, steps):
    more = {"tokenizer": None, "vocab_size": 200}
    folder = stopped("pretrain", **more)
    swap_pieces(folder)
    with pytest.raises(ConfigurationError, match=r"created by the unfinished run have changed \(the tokenizer\)"):
        run("pretrain", **more)
    swap_pieces(folder)
    run("pretrain", **more)
    assert steps == [2, 3]


def test_a_model_object_is_known_by_its_configuration_too(place, steps):
    options = {**SMALL, "output_dir": "run", "init_from": "de"}
    steps.limit = 1
    with pytest.raises(Stopped):
        extend(XmodForMaskedLM.from_pretrained("base"), "gsw", "gsw.txt", **options)
    model = XmodForMaskedLM.from_pretrained("base", layer_norm_eps=1e-3)
    with pytest.raises(ConfigurationError, match="the model object's configuration"):
        extend(model, "gsw", "gsw.txt", **options)
    model = XmodForMaskedLM.from_pretrained("base")
    with torch.no_grad():
        model.roberta.embeddings.LayerNorm.bias += 1
    with pytest.raises(ConfigurationError, match="the model object's weights"):
        extend(model, "gsw", "gsw.txt", **options)


@pytest.mark.parametrize("verb", VERBS)
def test_overwrite_begins_anew_where_a_run_was_stopped(stopped, steps, verb):
    """Not from the old checkpoint, though options and data are the same."""
    folder = stopped(verb)
    run(verb, overwrite=True)
    assert steps == [0, 1, 2, 3]
    logged = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "loss" in line] == [1, 2, 3, 4]


@pytest.mark.slow
def test_overwrite_does_all_seeds_again(place, steps):
    group = {**SMALL, "seeds": (1, 2), "output_dir": "group", "language": "en"}
    del group["block_size"]
    finetune("base", "train.jsonl", **group)
    Path("group/seeds.json").unlink()  # as if it had been stopped before its end
    steps.clear()
    finetune("base", "train.jsonl", **group)
    assert not steps
    Path("group/seeds.json").unlink()
    finetune("base", "train.jsonl", **group, overwrite=True)
    assert steps == [0, 1, 2, 3] * 2
    Path("group/seeds.json").unlink()
    flip(BASE / "model.safetensors")
    with pytest.raises(ConfigurationError, match=r"base/model\.safetensors: changed since .*seed-1 was trained"):
        finetune("base", "train.jsonl", **group)


def test_a_flipped_bit_in_any_file_of_a_checkpoint_is_found(stopped):
    folder = stopped("pretrain", save_every=1)
    newest, earlier = last_checkpoint(folder), folder / "checkpoints" / "checkpoint-2"
    assert newest.name == "checkpoint-3"
    assert intact_checkpoint(folder) == (newest, [])
    for path in sorted(newest.iterdir()):
        flip(path, path.stat().st_size // 2)
        found, said = intact_checkpoint(folder)
        assert found == earlier, path.name
        assert len(said) == 1
        assert str(newest) in said[0]
        flip(path, path.stat().st_size // 2)
    assert damage(newest) is None


def test_a_damaged_checkpoint_is_passed_over_with_a_word(stopped, steps, capsys):
    folder = stopped("pretrain", save_every=1)
    unbroken = run("pretrain", output_dir="unbroken")
    flip(folder / "checkpoints" / "checkpoint-3" / "optimizer.pt")
    steps.clear()
    run("pretrain", save_every=1)
    said = " ".join(capsys.readouterr().err.split())
    assert "checkpoint-3 is damaged (optimizer.pt has changed since it was written) and is skipped" in said
    assert steps == [2, 3]
    assert (folder / "log.jsonl").read_text() == (unbroken / "log.jsonl").read_text()
    mine, theirs = (load_file(each / "model.safetensors") for each in (folder, unbroken))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def test_the_best_checkpoint_is_needed_by_those_after_it(stopped, steps):
    """What is saved at the end is the best so far: a bit of it must not change unseen."""
    more = {"dev": "dev.jsonl", "eval_every": 1, "save_every": 1, "learning_rate": 1e-12}  # the first is the best
    folder = stopped("finetune", **more)
    checkpoints = folder / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"checkpoint-1", "checkpoint-3"}
    flip(checkpoints / "checkpoint-1" / "model.safetensors")
    found, said = intact_checkpoint(folder)
    assert found is None
    assert "the best so far, checkpoint-1, is damaged: model.safetensors" in said[0]
    run("finetune", **more)
    assert steps == [0, 1, 2, 3]
