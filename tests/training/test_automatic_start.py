"""`extend --init-from auto`: the donors that are found, recorded, and found again after a break."""

import json
import random
from pathlib import Path

import pytest

from tests.conftest import sentence
from tests.support import assert_same_state
from xmodular import diff, donors, extend
from xmodular.errors import ConfigurationError
from xmodular.training import automatic_start, trainer

SMALL = {"block_size": 32, "batch_size": 8, "max_steps": 4, "learning_rate": 5e-3, "dev_fraction": 0.2}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(5)
    path = tmp_path_factory.mktemp("new") / "gsw.txt"
    path.write_text("".join(sentence("de_DE", draw).replace("au", "uu") + "\n" for _ in range(200)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def grown(base_run, text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grown") / "gsw"
    return extend(base_run.output_dir, "gsw", text, output_dir=folder, init_from="auto", **SMALL)


def test_the_start_is_the_best_donor_and_the_run_says_why(grown, base_run, text, tmp_path):
    record = json.loads((grown.output_dir / "donors.json").read_text(encoding="utf-8"))
    assert record["language"] == "gsw"
    said = grown.metrics["initialisation"]
    assert record["init_from"].split(",")[0] in said
    assert record["why"][0] in said
    assert record["why"][0] in (grown.output_dir / "pack" / "README.md").read_text(encoding="utf-8")
    named = extend(base_run.output_dir, "gsw", text, output_dir=tmp_path, init_from=record["init_from"], **SMALL)
    assert_same_state(named.model.state_dict(), grown.model.state_dict())
    assert named.metrics["start"] == grown.metrics["start"]
    assert not (tmp_path / "donors.json").exists()


def test_it_measures_the_training_text_alone(grown, base_run, text):
    """The whole text has the held-out lines too."""
    whole = donors(base_run.output_dir, text, "gsw").record()["candidates"]
    part = json.loads((grown.output_dir / "donors.json").read_text(encoding="utf-8"))["candidates"]
    assert part[0]["characters"] < whole[0]["characters"]


def test_only_the_new_language_moved(grown, base_run):
    certificate = diff(base_run.output_dir, grown.output_dir)
    assert certificate.added == {"gsw"}
    assert not certificate.changed


def test_a_broken_run_goes_on_with_the_same_start(grown, base_run, text, tmp_path, monkeypatch):
    class Broken(Exception):
        pass

    publish = trainer.publish

    def break_off(*arguments, **options):
        publish(*arguments, **options)
        raise Broken

    small = {**SMALL, "save_every": 2, "init_from": "auto", "output_dir": tmp_path / "broken"}
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "publish", break_off)
        with pytest.raises(Broken):
            extend(base_run.output_dir, "gsw", text, **small)
    monkeypatch.setattr(automatic_start, "ranked", None)  # it is not asked again
    again = extend(base_run.output_dir, "gsw", text, **small)
    assert_same_state(again.model.state_dict(), grown.model.state_dict())
    assert again.metrics == grown.metrics


def test_a_run_that_starts_over_finds_donors_anew(base_run, text, tmp_path):
    small = {**SMALL, "max_steps": 1, "output_dir": tmp_path, "overwrite": True}
    extend(base_run.output_dir, "gsw", text, init_from="auto", **small)
    (tmp_path / "donors.json").write_text('{"init_from": "sw", "why": []}', encoding="utf-8")
    run = extend(base_run.output_dir, "gsw", text, init_from="auto", **small)
    assert "sw," not in run.metrics["initialisation"]
    assert "candidates" in json.loads((tmp_path / "donors.json").read_text(encoding="utf-8"))
    extend(base_run.output_dir, "gsw", text, init_from="de", **small)
    assert not (tmp_path / "donors.json").exists()


def test_a_new_vocabulary_starts_from_the_donors_too(base_run, text, tmp_path):
    small = {**SMALL, "max_steps": 1, "new_vocabulary": 80}
    run = extend(base_run.output_dir, "gsw", text, output_dir=tmp_path, init_from="auto", **small)
    assert run.model.config.vocabularies.keys() == {"gsw"}
    assert (tmp_path / "donors.json").is_file()


def test_of_a_text_of_which_nothing_is_known_the_start_adds_nothing(base_run, tmp_path):
    path = tmp_path / "ta.txt"
    path.write_text("".join(f"தமிழ் மொழி {number}\n" for number in range(60)), encoding="utf-8")
    small = {**SMALL, "max_steps": 1}
    runs = [
        extend(base_run.output_dir, "ta", path, output_dir=tmp_path / start, init_from=start, **small)
        for start in ("auto", "neutral")
    ]
    assert "better than at random" in runs[0].metrics["initialisation"]
    assert_same_state(runs[0].model.state_dict(), runs[1].model.state_dict())


@pytest.mark.parametrize(
    ("options", "part"),
    [({"init_from": "auto,de"}, "auto cannot be combined"), ({"parallel": "p.tsv", "init_from": "auto"}, "--parallel")],
)
def test_refusals_come_first(base_run, text, tmp_path, options, part):
    given = {"text": None if "parallel" in options else text, "output_dir": tmp_path / "out", **SMALL, **options}
    if "parallel" in options:
        given.pop("text")
        given = {name: value for name, value in given.items() if name not in ("block_size",)}
    with pytest.raises(ConfigurationError, match=part):
        extend(base_run.output_dir, "gsw", **given)
    assert not (tmp_path / "out").exists()
