"""Fine-tuning: what is frozen stays, what is saved says what it is, errors before work."""

import copy
import json

import pytest
import torch

from xmodular import XmodForSequenceClassification, XmodForTokenClassification
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.modeling.trainable import parameter_group
from xmodular.training import finetune


def test_frozen_weights_stay_bit_identical(base_run, topic_run):
    before, after = base_run.model.state_dict(), topic_run.model.state_dict()
    shared = [name for name in before if name in after]
    changed = {name for name in shared if not torch.equal(before[name], after[name])}
    frozen = {name for name in shared if parameter_group(name) in ("embeddings", "adapters", "adapter norm")}
    assert not changed & frozen
    assert changed == set(shared) - frozen
    assert any(".adapter_modules.sw_KE." in name for name in frozen)


def test_saved_model_knows_task_language_and_labels(topic_run):
    model = XmodForSequenceClassification.from_pretrained(topic_run.output_dir)
    assert model.config.task_language == "en_XX"
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


def test_the_best_epoch_is_kept(corpus, base_run, tmp_path, monkeypatch):
    """Validation is made to like the first epoch best: the weights are then those after one epoch."""
    from xmodular.training import finetuning

    scores = iter([0.9, 0.5, 0.1, 0.9])
    states = []

    def scripted(model, *rest):
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"score": next(scores)}

    monkeypatch.setattr(finetuning, "_scores", scripted)
    run = finetune(
        base_run.output_dir,
        corpus / "topic" / "en_XX.train.jsonl",
        dev=corpus / "topic" / "en_XX.dev.jsonl",
        language="en",
        output_dir=tmp_path,
        epochs=3,
        learning_rate=1e-2,
    )
    assert run.metrics["dev"] == {"score": 0.9}
    final = run.model.state_dict()
    assert all(torch.equal(final[name], tensor) for name, tensor in states[0].items())
    assert not all(torch.equal(final[name], tensor) for name, tensor in states[2].items())


def test_a_model_object_is_trained_in_place(corpus, base_run, tmp_path):
    model = XmodForSequenceClassification.from_pretrained(base_run.output_dir, languages=["en", "sw"], num_labels=2)
    train = corpus / "topic" / "en_XX.train.jsonl"
    run = finetune(model, train, language="en", output_dir=tmp_path / "a", max_steps=1)
    assert run.model is model
    assert model.config.id2label == {0: "common", 1: "rare"}
    wrong = XmodForSequenceClassification.from_pretrained(base_run.output_dir, num_labels=5)
    with pytest.raises(ConfigurationError, match="head for 5 labels, the training file has 2: common, rare"):
        finetune(wrong, train, language="en", output_dir=tmp_path / "b")
    tagger = XmodForTokenClassification.from_pretrained(base_run.output_dir, num_labels=2)
    with pytest.raises(ConfigurationError, match="needs a XmodForSequenceClassification; this is a XmodForToken"):
        finetune(tagger, train, language="en", output_dir=tmp_path / "b")


def test_accumulated_batches_count_as_one(corpus, base_run, tmp_path):
    """Sentences have unequal numbers of labels, so this holds only if losses are summed over all of them."""
    torch.manual_seed(0)
    model = XmodForTokenClassification.from_pretrained(
        base_run.output_dir, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    trained = []
    for batch_size, accumulation in ((8, 1), (2, 4)):
        run = finetune(
            copy.deepcopy(model),
            corpus / "tag" / "en_XX.train.conll",
            task="tag",
            language="en",
            output_dir=tmp_path / str(batch_size),
            max_steps=3,
            learning_rate=1e-2,
            batch_size=batch_size,
            accumulation=accumulation,
        )
        trained.append(run.model.state_dict())
    for name, tensor in trained[0].items():
        torch.testing.assert_close(tensor, trained[1][name], atol=1e-4, rtol=1e-3, msg=name)


def test_errors_come_before_work(corpus, base_run, tmp_path):
    train = corpus / "topic" / "en_XX.train.jsonl"
    with pytest.raises(LanguageError, match="Klingon"):
        finetune(base_run.output_dir, train, language="Klingon", output_dir=tmp_path)
    with pytest.raises(DataError, match="There is no file"):
        finetune(base_run.output_dir, tmp_path / "absent.jsonl", language="en", output_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="holds no model"):
        finetune(tmp_path, train, language="en", output_dir=tmp_path / "out")
    with pytest.raises(ConfigurationError, match="task is one of classify, tag; not 'topic'"):
        finetune(base_run.output_dir, train, language="en", output_dir=tmp_path, task="topic")
    one = tmp_path / "one.jsonl"
    one.write_text('{"text": "a", "label": "x"}\n')
    with pytest.raises(ConfigurationError, match=r"one label only \('x'\)"):
        finetune(base_run.output_dir, one, language="en", output_dir=tmp_path)
