"""Fine-tuning: what is frozen stays, what is saved says what it is, errors before work."""

import copy
import hashlib
import json
import math

import huggingface_hub
import pytest
import torch

from tests.support import assert_same_state, scatter_weights
from xmodular import (
    XmodForMultipleChoice,
    XmodForQuestionAnswering,
    XmodForSequenceClassification,
    XmodForTokenClassification,
)
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.modeling.trainable import parameter_group
from xmodular.options import read_options_file
from xmodular.tasks import TASKS, Example, load_saved, task_of
from xmodular.training import finetune
from xmodular.training.task_data import EncodedData, Rows, held_out
from xmodular.training.trainer import RoutedTrainer


def test_frozen_weights_stay_bit_identical(base_run, topic_run):
    before, after = base_run.model.state_dict(), topic_run.model.state_dict()
    shared = [name for name in before if name in after]
    changed = {name for name in shared if not torch.equal(before[name], after[name])}
    frozen = {name for name in shared if parameter_group(name) in ("embeddings", "adapters", "adapter norm")}
    assert not changed & frozen
    assert changed == set(shared) - frozen
    assert any(".adapter_modules.sw_KE." in name for name in frozen)


def test_a_run_of_which_nothing_is_said_and_the_same_again(corpus, base_run, tmp_path, monkeypatch):
    """200 steps of 40 rows, validated every 10; broken and gone on with, and from its own options, it is the same."""

    class Broken(Exception):
        pass

    real, seen = RoutedTrainer.training_step, []

    def step(self, *args, **kwargs):
        seen.append(1)
        if len(seen) > 30:
            raise Broken
        return real(self, *args, **kwargs)

    rows = [corpus / "topic" / f"en_XX.{split}.jsonl" for split in ("train", "dev")]
    run = finetune(base_run.output_dir, rows[0], dev=rows[1], output_dir=tmp_path / "whole")
    assert run.metrics["steps"] == 200
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "eval_score" in line] == list(range(10, 201, 10))
    with monkeypatch.context() as patch:
        patch.setattr(RoutedTrainer, "training_step", step)
        with pytest.raises(Broken):
            finetune(base_run.output_dir, rows[0], dev=rows[1], output_dir=tmp_path / "broken", save_every=20)
    again = finetune(base_run.output_dir, rows[0], dev=rows[1], output_dir=tmp_path / "broken", save_every=20)
    assert_same_state(again.model.state_dict(), run.model.state_dict())
    kept = read_options_file(tmp_path / "whole" / "options.json")
    assert (kept["epochs"], kept["learning_rate"], kept["head_learning_rate"]) == (None, 4.8e-4, 2e-3)
    third = finetune(**{**kept, "output_dir": tmp_path / "third"})
    assert_same_state(third.model.state_dict(), run.model.state_dict())


def test_saved_model_knows_task_language_and_labels(topic_run):
    model = XmodForSequenceClassification.from_pretrained(topic_run.output_dir)
    assert model.config.task_language == "en_XX"
    assert (model.config.task_max_length, model.config.task_stride) == (128, None)
    assert model.config.id2label == {0: "common", 1: "rare"}
    assert model.languages == ("de_DE", "en_XX", "sw_KE")
    assert json.loads((topic_run.output_dir / "options.json").read_text())["language"] == "en_XX"
    assert not (topic_run.output_dir / "checkpoints").exists()


def test_adapters_policy_trains_the_adapter_of_its_language_only(corpus, base_run, tmp_path):
    run = finetune(
        base_run.output_dir,
        corpus / "topic" / "sw_KE.train.jsonl",
        language="Swahili",
        output_dir=tmp_path,
        trainable="adapters",
        max_steps=2,
        learning_rate=1e-2,
    )
    before, after = base_run.model.state_dict(), run.model.state_dict()
    changed = {name for name in before if name in after and not torch.equal(before[name], after[name])}
    assert changed
    assert all(".adapter_modules.sw_KE." in name for name in changed)
    assert run.model.config.task_language == "sw_KE"


def scripted(monkeypatch, values):
    """Makes validation say these scores, in order; gives the weights at each."""
    scores, states = iter(values), []

    def say(self, model, labels):
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"score": next(scores)}

    monkeypatch.setattr(EncodedData, "scores", say)
    return states


@pytest.fixture
def validated(corpus, base_run, tmp_path):
    """Trains in English with validation; 40 rows, two steps a pass."""

    def train(**options):
        return finetune(
            base_run.output_dir,
            corpus / "topic" / "en_XX.train.jsonl",
            **{
                "dev": corpus / "topic" / "en_XX.dev.jsonl",
                "language": "en",
                "output_dir": tmp_path / "run",
                "epochs": 3,
                "learning_rate": 1e-2,
                **options,
            },
        )

    return train


def test_the_best_pass_is_kept(validated, monkeypatch):
    """Validation is made to like the first pass best: the weights are then those after one pass."""
    states = scripted(monkeypatch, [0.9, 0.5, 0.1, 0.9])
    run = validated()
    assert run.metrics["dev"] == {"score": 0.9}
    assert (run.metrics["best_step"], run.metrics["steps"], run.metrics["stopped_early"]) == (2, 6, False)
    final = run.model.state_dict()
    assert all(torch.equal(final[name], tensor) for name, tensor in states[0].items())
    assert not all(torch.equal(final[name], tensor) for name, tensor in states[2].items())
    logged = [json.loads(line) for line in (run.output_dir / "log.jsonl").read_text().splitlines()]
    assert [line["eval_score"] for line in logged if "eval_score" in line] == [0.9, 0.5, 0.1]


def test_training_stops_when_nothing_better_comes(validated, monkeypatch):
    states = scripted(monkeypatch, [0.1, 0.5, 0.5, 0.4, 0.4])
    run = validated(patience=2, eval_every=1, epochs=30)
    assert (run.metrics["best_step"], run.metrics["steps"], run.metrics["stopped_early"]) == (2, 4, True)
    final = run.model.state_dict()
    assert all(torch.equal(final[name], tensor) for name, tensor in states[1].items())


def test_validation_is_in_the_training_language(corpus, validated, tmp_path):
    with pytest.raises(ConfigurationError, match=r"sw_KE\.dev\.jsonl:1 is in sw_KE, the training data in en_XX"):
        validated(dev=corpus / "topic" / "sw_KE.dev.jsonl")
    mixed = tmp_path / "mixed.jsonl"
    rows = [{"text": "a river", "label": "rare"}, {"text": "mto", "label": "rare", "language": "Swahili"}]
    mixed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ConfigurationError, match=r"mixed\.jsonl:2 is in Swahili"):
        validated(dev=mixed)
    assert not (tmp_path / "run").exists()


def test_labels_of_validation_must_be_known(validated, tmp_path):
    other = tmp_path / "dev.jsonl"
    other.write_text('{"text": "a river", "label": "rare"}\n{"text": "a", "label": "new"}\n')
    with pytest.raises(DataError, match=r"dev\.jsonl:2: the label 'new' is not one of the model's: common, rare"):
        validated(dev=other)
    other.write_text('{"text": "a river"}\n')
    with pytest.raises(DataError, match=r"dev\.jsonl:1: .*the field for the gold"):
        validated(dev=other)
    assert not (tmp_path / "run").exists()


def test_rows_are_read_in_their_own_languages(corpus, base_run, tmp_path):
    """Without --language: each file's name, or a column, says it; only those adapters move."""
    files = [corpus / "topic" / f"{code}.train.jsonl" for code in ("sw_KE", "de_DE")]
    options = {"trainable": "adapters", "learning_rate": 1e-2, "epochs": 1}
    run = finetune(base_run.output_dir, files, output_dir=tmp_path / "files", **options)
    before, after = base_run.model.state_dict(), run.model.state_dict()
    changed = {name for name in before if name in after and not torch.equal(before[name], after[name])}
    assert {name.split("adapter_modules.")[1][:5] for name in changed} == {"sw_KE", "de_DE"}
    column = tmp_path / "train.jsonl"
    with column.open("w") as file:
        for path, name in zip(files, ("Swahili", "de"), strict=True):
            for line in path.read_text().splitlines():
                file.write(json.dumps({**json.loads(line), "lang": name}) + "\n")
    same = finetune(
        base_run.output_dir, column, output_dir=tmp_path / "column", columns={"language": "lang"}, **options
    )
    assert_same_state(same.model.state_dict(), after)
    assert run.model.config.task_language == "sw_KE"
    nowhere = tmp_path / "rows.jsonl"
    nowhere.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:1: the row's language is unknown\. Give it with --language"):
        finetune(base_run.output_dir, nowhere, output_dir=tmp_path / "nowhere")


def test_a_files_name_is_a_language_only_where_the_model_has_it(base_run, tmp_path):
    def write(name):
        (tmp_path / name).write_text('{"text": "a river", "label": "x"}\n{"text": "bread", "label": "y"}\n')
        return tmp_path / name

    options = {"output_dir": tmp_path / "run", "max_steps": 1, "overwrite": True}
    run = finetune(base_run.output_dir, write("mix.jsonl"), language="en", dev=write("med.jsonl"), **options)
    assert run.model.config.task_language == "en_XX"
    run = finetune(base_run.output_dir, write("sw.train.jsonl"), **options)
    assert run.model.config.task_language == "sw_KE"
    with pytest.raises(DataError, match=r"mt\.train\.jsonl:1: the row's language is unknown\. Give it with --language"):
        finetune(base_run.output_dir, write("mt.train.jsonl"), **options)
    with pytest.raises(LanguageError, match="there is no language 'de_CH' here: did you mean de_DE"):
        finetune(base_run.output_dir, write("de_CH.train.jsonl"), **options)
    with pytest.raises(ConfigurationError, match=r"de_CH\.dev\.jsonl:1 is in de_CH"):
        finetune(base_run.output_dir, tmp_path / "sw.train.jsonl", dev=write("de_CH.dev.jsonl"), **options)


def test_paths_and_data_are_shown_as_they_are(base_run, tmp_path, capsys):
    path, folder = tmp_path / "rows.jsonl", tmp_path / "q[" / "b]" / "z[v2]"
    rows = [{"text": "a river", "label": "x", "language": "[/b]"}, {"text": "bread", "label": "y"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    finetune(base_run.output_dir, path, language="en", output_dir=folder, max_steps=1)
    said = capsys.readouterr().err.replace("\n", "")
    assert "Rows in [/b] are read with the adapter of en_XX." in said
    assert "[/b]/z[v2]" in said.split("output goes to")[1]


def test_columns_have_other_names_and_bad_rows_are_left_out(base_run, tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("stars,review\n1,a river\n2,the house\n,empty\n2,bread\n")
    options = {"language": "en", "columns": "text=review,label=stars", "max_steps": 1}
    with pytest.raises(DataError, match=r"train\.csv:4"):
        finetune(base_run.output_dir, path, output_dir=tmp_path / "run", **options)
    run = finetune(base_run.output_dir, path, output_dir=tmp_path / "run", skip_bad_rows=True, **options)
    assert run.model.config.id2label == {0: "1", 1: "2"}
    path.write_text("0,no\na river,x\nthe house,y\n")
    other = finetune(base_run.output_dir, path, output_dir=tmp_path / "0", **{**options, "columns": "text=0,label=no"})
    assert other.model.config.id2label == {0: "x", 1: "y"}
    assert "| 3 |" in (run.output_dir / "README.md").read_text()


def test_a_model_object_is_trained_in_place(corpus, base_run, tmp_path):
    model = XmodForSequenceClassification.from_pretrained(base_run.output_dir, languages=["en", "sw"], num_labels=2)
    train = corpus / "topic" / "en_XX.train.jsonl"
    run = finetune(model, train, language="en", output_dir=tmp_path / "a", max_steps=1)
    assert run.model is model
    assert model.config.id2label == {0: "common", 1: "rare"}
    wrong = XmodForSequenceClassification.from_pretrained(base_run.output_dir, num_labels=5)
    with pytest.raises(ConfigurationError, match="head for 5 labels, but the training data have 2: common, rare"):
        finetune(wrong, train, language="en", output_dir=tmp_path / "b")
    tagger = XmodForTokenClassification.from_pretrained(base_run.output_dir, num_labels=2)
    with pytest.raises(ConfigurationError, match="needs an XmodForSequenceClassification; this is an XmodForToken"):
        finetune(tagger, train, language="en", output_dir=tmp_path / "b")


HEADS = {
    "classify": (XmodForSequenceClassification, 3),
    "regress": (XmodForSequenceClassification, 1),
    "tag": (XmodForTokenClassification, 3),
    "qa": (XmodForQuestionAnswering, 2),
    "choice": (XmodForMultipleChoice, 2),
}


def test_after_mixed_precision_the_model_computes_as_it_is_saved(corpus, base_run, tmp_path):
    path = corpus / "topic" / "en_XX.train.jsonl"
    options = {"language": "en", "dev": path, "max_steps": 3, "batch_size": 8, "precision": "bf16"}
    run = finetune(base_run.output_dir, path, output_dir=tmp_path, **options)
    saved = load_saved(tmp_path).eval()
    ids = torch.tensor([[0, *range(4, 20), 2]])
    with torch.no_grad():
        one, other = (model(ids, lang_ids=torch.tensor([1])).logits for model in (run.model, saved))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    assert "forward" not in vars(run.model)


@pytest.mark.parametrize("task", HEADS)
def test_accumulated_batches_count_as_one(task, tasks, base_run, tmp_path, monkeypatch):
    """Rows have unequal numbers of labels and windows, so this holds only if losses are summed over all of them."""
    torch.manual_seed(0)
    architecture, labels = HEADS[task]
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = architecture.from_pretrained(base_run.output_dir, num_labels=labels, **none)
    scatter_weights(model)
    gradients = []

    def keep(self, wrapped):
        gradients.append({n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None})
        return torch.tensor(0.0)

    monkeypatch.setattr(RoutedTrainer, "_clip_grad_norm", keep)
    for batch_size, accumulation in ((8, 1), (2, 4)):
        run = finetune(
            copy.deepcopy(model),
            tasks[task],
            task=task,
            language="en",
            output_dir=tmp_path / str(batch_size),
            max_steps=1,
            max_length=24,
            stride=4 if task in ("tag", "qa") else None,
            batch_size=batch_size,
            accumulation=accumulation,
        )
        assert math.isfinite(run.metrics["train_loss"])
    whole, parts = gradients
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, parts[name], atol=1e-6, rtol=0, msg=lambda text, n=name: f"{n}: {text}")
    assert max(float(tensor.abs().max()) for tensor in whole.values()) > 1e-3


@pytest.mark.parametrize("task", HEADS)
def test_every_task_learns_its_rows(task, tasks, base_run, tmp_path):
    """All weights train on a few rows; validation, which reads the same ones, sees it, and so does who loads them."""
    run = finetune(
        base_run.output_dir,
        tasks[task],
        task=task,
        language="en",
        dev=tasks[task],
        output_dir=tmp_path / task,
        trainable="all",
        max_steps=40,
        eval_every=20,
        batch_size=24,
        max_length=48,
        stride=8 if task in ("tag", "qa") else None,
        learning_rate=1e-2,
        warmup=3,
    )
    least = {"classify": 0.55, "regress": 0.6, "tag": 0.8, "qa": 0.5, "choice": 0.6}[task]
    assert run.metrics["dev"]["score"] > least
    saved = load_saved(run.output_dir)
    assert type(saved) is type(run.model)
    assert_same_state(saved.state_dict(), run.model.state_dict())
    assert task_of(saved) is TASKS[task]


def test_a_recipe_sets_what_no_flag_says(tasks, base_run, tmp_path):
    run = finetune(
        base_run.output_dir, tasks["classify"], language="en", recipe="xnli", max_steps=1, output_dir=tmp_path / "run"
    )
    options = json.loads((run.output_dir / "options.json").read_text())
    assert (options["schedule"], options["max_grad_norm"], options["adam_betas"]) == ("constant", 0.0, [0.9, 0.98])
    assert run.model.config.classifier_dropout == run.model.classifier.dropout.p == 0.0


def test_the_model_card_says_where_it_comes_from(corpus, validated):
    run = validated(seed=3, recipe="xnli", batch_size=8, epochs=1)
    text = (run.output_dir / "README.md").read_text()
    card = huggingface_hub.ModelCard(text)
    assert card.data.language == ["de", "en", "sw"]
    assert card.data.pipeline_tag == "text-classification"
    digest = hashlib.sha256((corpus / "topic" / "en_XX.train.jsonl").read_bytes()).hexdigest()
    assert f"| training | en_XX.train.jsonl | 40 | {digest} |" in text
    assert "| validation | en_XX.dev.jsonl | 40 |" in text
    assert "Recipe `xnli`, after X-MOD" in text
    assert "Changed: `learning_rate`, `epochs`, `batch_size`." in text
    assert "| seed | 3 |" in text
    assert f"| accuracy | {run.metrics['dev']['accuracy']:.4f} |" in text
    assert f"torch {torch.__version__}" in text
    assert "Swahili (`sw_KE`)" in text
    assert "`common`, `rare`" in text


def test_the_card_of_pairs_shows_a_pair(base_run, tmp_path):
    path = tmp_path / "en_XX.train.jsonl"
    path.write_text("".join(json.dumps({"text1": "a", "text2": "b", "label": label}) + "\n" for label in "xy"))
    run = finetune(base_run.output_dir, path, output_dir=tmp_path / "run", max_steps=1)
    text = (run.output_dir / "README.md").read_text()
    assert 'predictor([{"text1": "...", "text2": "..."}]' in text
    assert "This model gives a pair of texts a label." in text
    assert "| stride |" not in text  # it reads no windows


def test_the_card_of_a_tagger_shows_no_pair(base_run, tmp_path):
    path = tmp_path / "en_XX.train.conll"
    path.write_text("Paris\tB-LOC\n\nwe\tO\nsleep\tO\n")
    run = finetune(base_run.output_dir, path, task="tag", output_dir=tmp_path / "run", max_steps=1)
    assert 'predictor([{"text": "..."}]' in (run.output_dir / "README.md").read_text()


def test_shorter_rows_than_asked_for_are_said(corpus, base_run, tmp_path, capsys):
    train = corpus / "topic" / "en_XX.train.jsonl"
    finetune(base_run.output_dir, train, output_dir=tmp_path / "run", max_steps=1, max_length=5000)
    positions = base_run.model.config.max_position_embeddings - base_run.model.config.pad_token_id - 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"The model has positions for {positions} tokens, so longer texts are truncated" in said


def test_a_finished_run_is_found_before_the_rows_are_read(corpus, base_run, tmp_path):
    options = {"output_dir": tmp_path / "run", "max_steps": 1}
    finetune(base_run.output_dir, corpus / "topic" / "en_XX.train.jsonl", **options)
    with pytest.raises(ConfigurationError, match="contains a finished run"):
        finetune(base_run.output_dir, tmp_path / "absent.jsonl", **options)


def test_errors_come_before_work(corpus, base_run, tmp_path):
    train = corpus / "topic" / "en_XX.train.jsonl"
    with pytest.raises(LanguageError, match="Klingon"):
        finetune(base_run.output_dir, train, language="Klingon", output_dir=tmp_path)
    with pytest.raises(DataError, match="There is no file"):
        finetune(base_run.output_dir, tmp_path / "absent.jsonl", language="en", output_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="contains no model"):
        finetune(tmp_path, train, language="en", output_dir=tmp_path / "out")
    one = tmp_path / "one.jsonl"
    one.write_text('{"text": "a", "label": "x"}\n')
    with pytest.raises(ConfigurationError, match=r"only one label \('x'\)"):
        finetune(base_run.output_dir, one, language="en", output_dir=tmp_path)


def test_what_the_head_reads_is_an_option(corpus, base_run, tmp_path):
    train, tags = corpus / "topic" / "en_XX.train.jsonl", corpus / "tag" / "en_XX.train.conll"
    finetune(base_run.output_dir, train, output_dir=tmp_path / "run", max_steps=1, pooling="mean")
    again = XmodForSequenceClassification.from_pretrained(tmp_path / "run")
    assert again.config.classifier_pooling == "mean"
    on = finetune(again, train, output_dir=tmp_path / "on", max_steps=1)
    assert on.model.config.classifier_pooling == "mean"
    with pytest.raises(ConfigurationError, match="--pooling mean is for classify, regress and embed; the task is tag"):
        finetune(base_run.output_dir, tags, task="tag", output_dir=tmp_path / "tag", pooling="mean")


def test_the_head_may_learn_at_a_rate_of_its_own(corpus, base_run, tmp_path):
    """AdamW's first step is the learning rate, whatever the gradient."""
    train = corpus / "topic" / "en_XX.train.jsonl"
    steady = {"max_steps": 1, "warmup": 0, "schedule": "constant", "weight_decay": 0, "classifier_dropout": 0}
    rates = {"learning_rate": 1e-4, "head_learning_rate": 1e-2, "max_grad_norm": 0, "adam_epsilon": 1e-12}
    start = finetune(base_run.output_dir, train, output_dir=tmp_path / "start", **{**steady, "learning_rate": 1e-30})
    before = {name: weight.clone() for name, weight in start.model.state_dict().items()}
    run = finetune(start.model, train, output_dir=tmp_path / "run", **steady, **rates)
    for name, weight in run.model.named_parameters():
        moved = float((weight.detach() - before[name]).abs().max())
        rate = {"task head": 1e-2, "encoder": 1e-4}.get(parameter_group(name), 0)
        assert moved <= 1.02 * rate, name
        if name.endswith("weight"):  # the keys' biases have no gradient but noise
            assert moved == pytest.approx(rate, rel=0.02, abs=1e-8), name
    with pytest.raises(ConfigurationError, match="head_learning_rate must be positive"):
        finetune(base_run.output_dir, train, output_dir=tmp_path / "no", head_learning_rate=0)


def _rows(count):
    """Rows of which every third has the text of the one before."""
    return [{"text": f"river {n - (n % 3 == 2)}", "label": "ab"[n % 2], "id": n} for n in range(count)]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_rows_are_held_out_by_their_texts(share):
    rows = _rows(300)
    examples = tuple(Example((row["text"],), row["label"], "", str(row["id"])) for row in rows)
    whole = Rows(examples, ({"source": "a", "rows": 100}, {"source": "b", "rows": 200}), ("x", "y"))
    train, dev = held_out(TASKS["classify"], whole, share)
    assert {each.id for each in train.examples}.isdisjoint(each.id for each in dev.examples)
    assert len(train.examples) + len(dev.examples) == 300
    assert 300 * share <= len(dev.examples) <= 300 * share + 1
    assert not {each.texts for each in train.examples} & {each.texts for each in dev.examples}
    assert [each["rows"] for each in train.sources] == [
        sum(each in train.examples for each in part) for part in (examples[:100], examples[100:])
    ]
    again, held = held_out(TASKS["classify"], Rows(examples[::-1], whole.sources, ("x", "y")), share)
    assert set(held.examples) == set(dev.examples)
    assert set(again.examples) == set(train.examples)


def test_what_cannot_be_held_out_stays_in_training():
    examples = (*(Example((f"text {n}",), "common", "") for n in range(30)), Example(("text x",), "rare", ""))
    rows = Rows(examples, ({"source": "rows", "rows": 31},), ("x",))
    for share in (0.1, 0.5):
        train, dev = held_out(TASKS["classify"], rows, share)
        assert {each.gold for each in dev.examples} == {"common"}
        assert "rare" in {each.gold for each in train.examples}
    alone = Rows(examples[-1:], ({"source": "rows", "rows": 1},), ("x",))
    with pytest.raises(DataError, match=r"rows: of 1 row, --dev-fraction 0\.5 leaves nothing to validate on"):
        held_out(TASKS["classify"], alone, 0.5)


def test_a_run_with_held_out_rows_validates_on_them(corpus, base_run, tmp_path):
    options = {"language": "en", "epochs": 1, "dev_fraction": 0.2, "patience": 1}
    run = finetune(
        base_run.output_dir, corpus / "topic" / "en_XX.train.jsonl", output_dir=tmp_path / "a", seeds=(0, 1), **options
    )
    assert "dev" in run.metrics["metrics"]
    for seed in (0, 1):
        card = (tmp_path / "a" / f"seed-{seed}" / "README.md").read_text(encoding="utf-8")
        assert "held out of the training rows (dev_fraction 0.2)" in card
        assert "| 8 " in card
        assert "| 32 " in card
    with pytest.raises(ConfigurationError, match="Give either --dev"):
        finetune(base_run.output_dir, "a.jsonl", dev="b.jsonl", output_dir=tmp_path / "b", **options)
