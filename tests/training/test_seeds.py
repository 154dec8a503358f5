"""Several seeds in one call: a model each, what they have in common, and how a group goes on."""

import json
import shutil
import statistics

import pytest
import torch

from tests.support import assert_same_state
from xmodular import XmodForSequenceClassification
from xmodular.errors import ConfigurationError
from xmodular.tasks import load_saved
from xmodular.training import finetune, finetuning

OPTIONS = {"language": "en", "max_steps": 2, "batch_size": 8, "learning_rate": 5e-3}


@pytest.fixture
def files(corpus, base_run):
    return {
        "model": base_run.output_dir,
        "train": corpus / "topic" / "en_XX.train.jsonl",
        "dev": corpus / "topic" / "en_XX.dev.jsonl",
    }


def test_each_seed_is_a_run_of_its_own(files, tmp_path):
    group = finetune(output_dir=tmp_path / "group", seeds=(4, 7), **files, **OPTIONS)
    alone = finetune(output_dir=tmp_path / "alone", seed=7, **files, **OPTIONS)
    seven = load_saved(tmp_path / "group" / "seed-7")
    assert_same_state(seven.state_dict(), alone.model.state_dict())
    found = json.loads((tmp_path / "group" / "seeds.json").read_text())
    assert found == group.metrics
    assert found["seeds"] == [4, 7]
    losses = [
        json.loads((tmp_path / "group" / f"seed-{seed}" / "metrics.json").read_text())["train_loss"] for seed in (4, 7)
    ]
    spread = found["metrics"]["train_loss"]
    assert spread["values"] == losses
    assert spread["mean"] == pytest.approx(statistics.mean(losses))
    assert spread["std"] == pytest.approx(statistics.stdev(losses))
    scores = found["metrics"]["dev"]["accuracy"]["values"]
    assert found["best"] == (7 if scores[1] > scores[0] else 4)
    assert_same_state(group.model.state_dict(), load_saved(tmp_path / "group" / f"seed-{found['best']}").state_dict())
    assert not (tmp_path / "group" / "config.json").exists()
    options = json.loads((tmp_path / "group" / "seed-4" / "options.json").read_text())
    assert (options["seed"], options["seeds"]) == (4, [])


def test_a_group_goes_on_with_the_seeds_that_are_missing(files, tmp_path, monkeypatch):
    options = {**files, **OPTIONS, "output_dir": tmp_path / "group", "seeds": "1,2,3"}
    trained = []
    train = finetuning._finetune

    def counted(made, given):
        trained.append(made.seed)
        if trained == [1, 2]:
            raise KeyboardInterrupt
        return train(made, given)

    monkeypatch.setattr(finetuning, "_finetune", counted)
    with pytest.raises(KeyboardInterrupt):
        finetune(**options)
    group = finetune(**options)
    assert trained == [1, 2, 2, 3]
    assert group.metrics["seeds"] == [1, 2, 3]
    with pytest.raises(ConfigurationError, match=r"group contains the runs of several seeds\. Choose another folder"):
        finetune(**options)
    with pytest.raises(ConfigurationError, match=r"contains the runs of several seeds"):
        finetune(**{**options, "seeds": ()})
    trained.clear()
    more = finetune(**{**options, "seeds": (1, 2, 3, 4), "resume": True})
    assert trained == [4]
    assert more.metrics["metrics"]["train_loss"]["values"][:3] == group.metrics["metrics"]["train_loss"]["values"]
    finetune(**{**options, "seeds": (1,), "overwrite": True})
    assert trained == [4, 1]


def test_every_seed_starts_from_the_object_as_it_was(files, tmp_path):
    torch.manual_seed(0)
    model = XmodForSequenceClassification.from_pretrained(files.pop("model"), num_labels=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    finetune(model, output_dir=tmp_path / "group", seeds=(0, 1), **files, **OPTIONS)
    assert_same_state(model.state_dict(), before)
    finetune(model, output_dir=tmp_path / "alone", seed=1, **files, **OPTIONS)
    assert_same_state(
        load_saved(tmp_path / "group" / "seed-1").state_dict(), load_saved(tmp_path / "alone").state_dict()
    )


def test_seeds_of_other_data_are_not_mixed(files, tmp_path, monkeypatch):
    train = tmp_path / "en_XX.train.jsonl"
    shutil.copy(files["train"], train)
    options = {**files, **OPTIONS, "train": train, "output_dir": tmp_path / "group", "seeds": (1, 2)}
    once = finetuning._finetune

    def stopped(made, given):
        if made.seed == 2:
            raise KeyboardInterrupt
        return once(made, given)

    monkeypatch.setattr(finetuning, "_finetune", stopped)
    with pytest.raises(KeyboardInterrupt):
        finetune(**options)
    monkeypatch.undo()
    train.write_text(train.read_text().replace("river", "house"))
    with pytest.raises(ConfigurationError, match=r"en_XX\.train\.jsonl: changed since .*seed-1 was trained"):
        finetune(**options)
    assert not (tmp_path / "group" / "seed-2").exists()
    finetune(**options, overwrite=True)
    alone = finetune(**{**options, "seeds": (), "seed": 1, "output_dir": tmp_path / "alone"})
    assert_same_state(load_saved(tmp_path / "group" / "seed-1").state_dict(), alone.model.state_dict())


def test_a_group_does_not_write_over_its_own_model(files, tmp_path):
    group = {**OPTIONS, **files, "output_dir": tmp_path / "group", "seeds": (1, 2)}
    finetune(**group)
    with pytest.raises(ConfigurationError, match=r"is the source .* itself"):
        finetune(**{**group, "model": tmp_path / "group" / "seed-1", "overwrite": True})
    assert load_saved(tmp_path / "group" / "seed-1").languages
