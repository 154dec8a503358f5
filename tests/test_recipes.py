"""Recipes: what they set, what overrides them, how they are shown."""

import pytest
from typer.testing import CliRunner

from xmodular.cli import app
from xmodular.errors import ConfigurationError
from xmodular.options import FinetuneOptions, as_record, build
from xmodular.recipes import RECIPES, recipes

GIVEN = {"model": "base", "train": "train.jsonl", "output_dir": "run", "dev": "dev.jsonl"}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_set_of_good_options(name):
    made = build(FinetuneOptions, {**GIVEN, "recipe": name})
    assert made.task == RECIPES[name].task
    for option, value in RECIPES[name].values.items():
        assert getattr(made, option) == value
    assert build(FinetuneOptions, as_record(made)) == made
    assert RECIPES[name].source


def test_the_xnli_recipe_is_the_papers():
    values = RECIPES["xnli"].values
    assert (values["learning_rate"], values["schedule"], values["warmup"]) == (1e-5, "constant", 0)
    assert (values["epochs"], values["batch_size"], values["max_length"]) == (5, 32, 512)
    assert (values["adam_betas"], values["adam_epsilon"], values["weight_decay"]) == ((0.9, 0.98), 1e-6, 0.01)
    assert (values["max_grad_norm"], values["trainable"], values["classifier_dropout"]) == (0, "shared", 0)


def test_flags_override_the_recipe_and_the_recipe_the_defaults():
    # 5.0 and 0.06 are defaults: given, they count all the same.
    made = build(FinetuneOptions, {**GIVEN, "recipe": "squad", "epochs": 5.0, "warmup": "0.06"})
    assert (made.epochs, made.warmup) == (5.0, 0.06)
    assert (made.learning_rate, made.max_length, made.task) == (3e-5, 384, "qa")
    again = build(FinetuneOptions, vars(made))
    assert again == made


def test_mistakes_are_named():
    with pytest.raises(ConfigurationError, match=r"no recipe 'squd': did you mean 'squad'\? The recipes are xnli, "):
        build(FinetuneOptions, {**GIVEN, "recipe": "squd"})
    with pytest.raises(ConfigurationError, match="The recipe squad is for --task qa, not tag"):
        build(FinetuneOptions, {**GIVEN, "recipe": "squad", "task": "tag"})
    with pytest.raises(
        ConfigurationError,
        match=r"^--recipe hipe2022, which sets --patience 10, needs validation data",
    ):
        build(FinetuneOptions, {**GIVEN, "recipe": "hipe2022", "dev": ()})
    with pytest.raises(ConfigurationError, match=r"^--patience needs validation data"):
        build(FinetuneOptions, {**GIVEN, "recipe": "hipe2022", "dev": (), "patience": 3})
    for values, message in (
        ({"seeds": "1,2,1"}, "--seeds names a seed twice: 1, 2, 1"),
        ({"adam_betas": "0.9"}, "adam_betas must be two numbers"),
        ({"adam_betas": (0.9, 1.0)}, "adam_betas must be two numbers"),
        ({"stride": -1}, "stride must be at least 0"),
        ({"classifier_dropout": 1.5}, "classifier_dropout must be"),
        ({"train": ""}, "--train is empty"),
        ({"dev": "", "eval_every": 3}, "--eval-every needs validation data"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"resume": True, "overwrite": True}, "cannot be used together"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            build(FinetuneOptions, {**GIVEN, **values})


def test_the_table():
    run = CliRunner().invoke(app, ["recipes"])
    assert run.exit_code == 0, run.output
    assert all(name in run.output for name in RECIPES)
    assert "XTREME" in run.output
    run = CliRunner().invoke(app, ["recipes", "xnli"])
    assert "0.9,0.98" in run.output
    with pytest.raises(ConfigurationError, match="no recipe"):
        recipes("nothing")
