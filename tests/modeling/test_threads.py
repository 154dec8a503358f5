"""Small work takes one thread, unless the user has said how many."""

import copy

import pytest
import torch

from xmodular import XmodConfig, XmodModel, finetune
from xmodular.modeling import threads
from xmodular.prediction import Predictor


@pytest.fixture
def two(monkeypatch):
    """As on a machine of two cores, where nobody has said anything."""
    before = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_DEFAULT", 2)
    torch.set_num_threads(2)
    yield monkeypatch
    torch.set_num_threads(before)


def _seen(model):
    """The numbers of threads of the model's forward passes, as they are done."""
    found = []
    model.register_forward_hook(lambda *_: found.append(torch.get_num_threads()))
    return found


def test_a_small_model_predicts_and_trains_with_one_thread(corpus, topic_run, tmp_path, two):
    predictor = Predictor(topic_run.output_dir)
    seen = _seen(predictor.model)
    predictor(["the house sees bread."] * 3, "en")
    assert seen == [1]
    model = copy.deepcopy(topic_run.model)
    seen = _seen(model)
    finetune(model, corpus / "topic" / "en_XX.train.jsonl", output_dir=tmp_path / "run", max_steps=2)
    assert seen
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("why", ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "set", "large"])
def test_else_threads_stay(topic_run, two, why):
    expected = 2
    if why == "set":
        expected = 3
        torch.set_num_threads(3)
    elif why == "large":
        two.setattr(threads, "_SMALL", 1000)
        two.setattr(threads, "_TINY", 1000)
    else:
        two.setenv(why, "2")
    predictor = Predictor(topic_run.output_dir)
    seen = _seen(predictor.model)
    predictor(["the house sees bread."], "en")
    assert seen == [expected]
    assert torch.get_num_threads() == expected


def test_the_size_of_a_batch_counts_unless_the_model_is_tiny(two):
    for hidden, inner, tokens, one in (
        (64, 256, 8192, True),  # tiny
        (128, 512, 1_000_000, True),
        (128, 1024, 128, True),  # small batch
        (128, 1024, 129, False),
        (768, 3072, 7, True),
        (768, 3072, 8, False),
    ):
        shape = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = XmodModel(XmodConfig(vocab_size=20, languages=["en_XX"], **shape))
        assert threads.one_is_enough(model, tokens) == one, (hidden, inner, tokens)


def test_threads_come_back_after_an_error(topic_run, two):
    with pytest.raises(ZeroDivisionError), threads.threads_for(topic_run.model, 10):
        1 // (torch.get_num_threads() - 1)
    assert torch.get_num_threads() == 2
