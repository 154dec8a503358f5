"""A new language learned from translations: pairs as files have them, the loss, what moves, resuming."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.conftest import LANGUAGES, sentence
from tests.support import assert_same_state, tiny_model
from xmodular import Predictor, diff, extend
from xmodular.embeddings import Embedder
from xmodular.errors import ConfigurationError, DataError, LanguageError
from xmodular.modeling import XmodForMaskedLM, XmodModel
from xmodular.modeling.language_changes import make_neutral
from xmodular.options import ExtendOptions
from xmodular.tasks import Encoding, load_saved, nearest
from xmodular.training.aligning import Aligned, encoded, loss_of, nearness, print_scores
from xmodular.training.imitating import Imitated
from xmodular.training.pairs import Pair, held_out, read_pairs
from xmodular.vocabulary import save_tokenizer

SMALL = {"block_size": 32, "batch_size": 8, "max_steps": 40, "learning_rate": 3e-3}


def turned(line: str) -> str:
    """A made-up language: German with its letters turned."""
    return line.translate(str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(5)
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    german = [sentence("de_DE", draw) for _ in range(150)]
    path.write_text("de\tgsw\n" + "".join(f"{each}\t{turned(each)}\n" for each in german), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def aligned(base_run, pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aligned") / "gsw"
    return extend(base_run.output_dir, "gsw", parallel=pairs, output_dir=folder, **SMALL)


def test_sentences_come_near_their_translations_and_nothing_else_moves(aligned, base_run):
    metrics = aligned.metrics
    assert metrics["after"]["cosine"] > metrics["start"]["cosine"]
    assert metrics["after"]["loss"] < 0.9 * metrics["start"]["loss"]
    assert set(metrics["existing"]) == {"de_DE"}
    assert not any(module.training for module in aligned.model.modules())
    certificate = diff(base_run.output_dir, aligned.output_dir)
    assert certificate.added == {"gsw"}
    assert not certificate.changed
    assert_same_state(load_saved(aligned.output_dir).state_dict(), aligned.model.state_dict())
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir)
    assert model.load_language(aligned.output_dir / "pack") == "gsw"
    assert_same_state(model.state_dict(), aligned.model.state_dict())
    note = json.loads((aligned.output_dir / "pack" / "pack.json").read_text())
    assert "translations, 135 pairs of pairs.tsv" in json.dumps(note)


def test_the_figures_are_those_of_a_plain_computation(aligned, base_run, pairs):
    """Held-out sentences read one by one: no padding, no batches, states averaged by hand."""
    _, dev = held_out(read_pairs(str(pairs), "gsw", LANGUAGES), 0.01, 0)
    model, tokenizer = aligned.model, aligned.tokenizer

    @torch.no_grad()
    def mean(text: str, language: str) -> np.ndarray:
        ids = torch.tensor([tokenizer(text, truncation=True, max_length=32)["input_ids"]])
        return model.roberta(ids, lang_ids=model.lang_ids(language)).last_hidden_state[0].mean(0).numpy()

    targets = np.stack([mean(pair.translations["de_DE"], "de_DE") for pair in dev])
    for adapter, said in (("gsw", aligned.metrics["after"]), ("de_DE", aligned.metrics["existing"]["de_DE"])):
        own = np.stack([mean(pair.text, adapter) for pair in dev])
        cosines = [[np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for b in targets] for a in own]
        found = []
        for lines in (cosines, list(zip(*cosines, strict=True))):
            for n, line in enumerate(lines):
                near = [place for place, value in enumerate(line) if value > max(line) - 1e-6]
                found.append((n in near) / len(near))
        assert said["retrieval"] == pytest.approx(np.mean(found), abs=0.04)  # one of 30 may be nearly a tie
        assert said["cosine"] == pytest.approx(np.mean([cosines[n][n] for n in range(len(dev))]), abs=1e-5)
        assert said["loss"] == pytest.approx(np.mean(((own - targets) ** 2).sum(1)), rel=1e-4)


def test_an_encoder_without_a_head_learns_too_and_accumulation_changes_nothing(base_run, pairs, tmp_path):
    """Steps of 12 sentences in one batch or in two: the loss is a mean over all of them."""
    bare = XmodModel.from_pretrained(base_run.output_dir, add_pooling_layer=False)
    bare.config.hidden_dropout_prob = bare.config.attention_probs_dropout_prob = 0.0
    bare.save_pretrained(tmp_path / "bare")
    save_tokenizer(base_run.tokenizer, tmp_path / "bare", bare.config)
    options = {**SMALL, "max_steps": 4, "max_grad_norm": 0.0}
    runs = [
        extend(
            *(tmp_path / "bare", "gsw"),
            parallel=pairs,
            output_dir=tmp_path / f"{size}",
            **{**options, "batch_size": size, "accumulation": 12 // size},
        )
        for size in (12, 6)
    ]
    assert isinstance(runs[0].model, XmodModel)
    for name, weight in runs[0].model.state_dict().items():
        torch.testing.assert_close(weight, runs[1].model.state_dict()[name], atol=2e-5, rtol=1e-4)


def plain_contrast(model, tokenizer, texts, targets, right, temperature, batches) -> float:
    """One sentence, and then one target, at a time, in double precision."""
    states, losses = [], []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        states.append(model(ids, lang_ids=model.lang_ids("de_DE")).last_hidden_state[0].mean(0).double().numpy())

    def cosine(one, other):
        return one @ other / np.linalg.norm(one) / np.linalg.norm(other) / temperature

    for batch in batches:
        for own in batch:
            among = [cosine(states[own], target) for target in targets]
            losses.append(np.log(np.exp(among).sum()) - among[right[own]])
            others = [n for n in batch if n == own or right[n] != right[own]]
            among = [cosine(states[n], targets[right[own]]) for n in others]
            losses.append(np.log(np.exp(among).sum()) - among[others.index(own)])
    return float(np.mean(losses))


@pytest.mark.parametrize("objective", ["contrast", "both"])
def test_contrast_finds_a_sentence_among_the_targets_of_all(base_run, objective):
    """Two sentences with the same translation have one target, which is right for both, and both are right for it."""
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir).roberta.eval()
    tokenizer, draw = base_run.tokenizer, random.Random(3)
    texts = [sentence("de_DE", draw)[:20] for _ in range(6)]
    once = np.random.default_rng(2).normal(size=(5, model.config.hidden_size)).astype(np.float32)
    right = np.array([0, 1, 2, 1, 3, 4])
    encodings = tuple(Encoding(n, (tuple(tokenizer(text)["input_ids"]),)) for n, text in enumerate(texts))
    sentences = Aligned(encodings, once[right], right, model.languages.index("de_DE"), model.config.pad_token_id)
    options = ExtendOptions(
        model="m", language="gsw", parallel="p", output_dir=Path("o"), objective=objective, temperature=0.2
    )
    loss = loss_of(options, sentences)
    with torch.no_grad():
        batches = [[0, 1, 3, 2], [4, 5]]
        parts = [float(loss(model, sentences.batch(part), torch.tensor(6))) for part in batches]
        expected = plain_contrast(model, tokenizer, texts, once.astype(np.float64), right, 0.2, batches)
        if objective == "both":
            expected += sentences.scores(model, "de_DE")["loss"]
    assert sum(parts) == pytest.approx(expected, rel=1e-4)


def test_contrast_trains_and_reads_with_the_prefix(base_run, pairs, tmp_path):
    options = {**SMALL, "objective": "contrast", "temperature": 0.1, "prefix": "das ", "max_steps": 30}
    run = extend(base_run.output_dir, "gsw", parallel=pairs, output_dir=tmp_path / "run", **options)
    assert run.metrics["after"]["retrieval"] > run.metrics["start"]["retrieval"]
    assert not diff(base_run.output_dir, tmp_path / "run").changed
    _, dev = held_out(read_pairs(str(pairs), "gsw", LANGUAGES), 0.01, 0)
    embed = Embedder(run.model, prefix="das ", max_length=32)
    found = nearness(
        embed([pair.text for pair in dev], "gsw"), embed([pair.translations["de_DE"] for pair in dev], "de_DE")
    )
    assert found["cosine"] == pytest.approx(run.metrics["after"]["cosine"], abs=1e-5)


def test_a_sentence_is_not_trained_on_by_another_version_of_it():
    """Two dialects of a sentence have the same translation."""
    pairs = [Pair(f"{dialect} {n}", {"en_XX": f"sentence {n}"}) for n in range(40) for dialect in ("BE", "ZH")]
    train, dev = held_out(pairs, 0.01, 0)
    held = {pair.translations["en_XX"] for pair in dev}
    assert held.isdisjoint(pair.translations["en_XX"] for pair in train)
    assert len(dev) == 8


def test_a_broken_run_goes_on_as_if_it_had_not_been(base_run, pairs, tmp_path, aligned, monkeypatch):
    from xmodular.training import trainer as module

    class Broken(Exception):
        pass

    real = module.RoutedTrainer.training_step
    seen = []

    def step(self, *args, **kwargs):
        seen.append(1)
        if len(seen) > 25:
            raise Broken
        return real(self, *args, **kwargs)

    options = {**SMALL, "save_every": 10}
    with monkeypatch.context() as patch:
        patch.setattr(module.RoutedTrainer, "training_step", step)
        with pytest.raises(Broken):
            extend(base_run.output_dir, "gsw", parallel=pairs, output_dir=tmp_path / "run", **options)
    run = extend(base_run.output_dir, "gsw", parallel=pairs, output_dir=tmp_path / "run", **options)
    assert_same_state(run.model.state_dict(), aligned.model.state_dict())
    assert run.metrics == aligned.metrics


def test_a_broken_run_does_not_go_on_with_other_pairs(base_run, pairs, tmp_path, monkeypatch):
    """A folder of Parquet files is no file of which there is a checksum."""
    from xmodular.training import extending

    class Broken(Exception):
        pass

    def save(*args, **kwargs):
        raise Broken

    lines = [line.split("\t") for line in pairs.read_text(encoding="utf-8").splitlines()[1:]]
    folder, out = tmp_path / "pairs", tmp_path / "out"
    folder.mkdir()
    options = {**SMALL, "max_steps": 2, "log_every": 1, "parallel": folder, "output_dir": out}
    table = {"de": [each[0] for each in lines], "gsw": [each[1] for each in lines]}
    pq.write_table(pa.table(table), folder / "a.parquet")
    monkeypatch.setattr(extending, "save", save)
    with pytest.raises(Broken):
        extend(base_run.output_dir, "gsw", **options)
    with pytest.raises(Broken):  # it goes on, and comes to the same end
        extend(base_run.output_dir, "gsw", **options)
    pq.write_table(pa.table({**table, "gsw": table["gsw"][::-1]}), folder / "a.parquet")
    with pytest.raises(ConfigurationError, match=r"the data or the base have changed \(parallel\)"):
        extend(base_run.output_dir, "gsw", **options)


def test_nearness_of_equal_states_is_whole():
    states = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    assert nearness(states, 3 * states)["retrieval"] == 1.0
    assert nearness(states, states) == {"retrieval": 1.0, "cosine": pytest.approx(1.0), "loss": 0.0}
    assert nearness(states, np.roll(states, 1, 0))["retrieval"] == 0.0
    assert nearness(np.ones_like(states), states)["retrieval"] < 0.5  # all alike: one of seven is right by chance


def test_many_sentences_are_compared_in_parts(monkeypatch):
    draw = np.random.default_rng(1)
    own, targets = (draw.normal(size=(23, 3)).astype(np.float32) for _ in range(2))
    whole = nearness(own, targets)
    assert 0 < whole["retrieval"] < 1
    monkeypatch.setattr(nearest, "_AT_ONCE", 5 * 23)
    assert nearness(own, targets) == pytest.approx(whole)


def test_a_teacher_with_a_vocabulary_of_its_own(base_run, pairs, tmp_path):
    """It reads translations in its own pieces; the new sentences, in those of the shared vocabulary, it cannot read."""
    text = tmp_path / "tt.txt"
    lines = [line.split("\t") for line in pairs.read_text(encoding="utf-8").splitlines()[1:]]
    text.write_text("".join(f"{each[1]}\n" for each in lines), encoding="utf-8")
    small = {"block_size": 32, "batch_size": 8, "max_steps": 2}
    extend(base_run.output_dir, "tt", text, new_vocabulary=80, dev_fraction=0.2, output_dir=tmp_path / "tt", **small)
    for header, rows, known in (
        ("tt\tgsw", [each[1:] * 2 for each in lines], set(LANGUAGES)),
        ("tt\tde\tgsw", [[each[1], *each] for each in lines], {"de_DE"}),
    ):
        table = tmp_path / "three.tsv"
        table.write_text("".join("\t".join(row) + "\n" for row in [[header], *rows]), encoding="utf-8")
        out = tmp_path / str(len(known))
        assert set(extend(tmp_path / "tt", "gsw", parallel=table, output_dir=out, **small).metrics["existing"]) == known


def test_translations_in_several_languages(tmp_path):
    path = tmp_path / "many.jsonl"
    rows = [
        {"id": "a1", "English": "one", "de_DE": "eins", "gsw": "äis", "note": "x"},
        {"ID ": "a2", "English": "two", "de_DE": "", "gsw": "zwöi"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    first, second = read_pairs(str(path), "gsw", ["en_XX", "de_DE", "id_ID"])
    assert (first.text, first.translations) == ("äis", {"en_XX": "one", "de_DE": "eins"})
    assert (second.text, second.translations) == ("zwöi", {"en_XX": "two"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("en\tmt\nOne.\tWieħed.\n", "no column is in gsw"),
        ("gsw\tmt\nÄis.\tWieħed.\n", "in a language of the model"),
        ("en\ten_XX\tgsw\nOne.\tOne.\tÄis.\n", "two columns are in en_XX"),
        ("en\tgsw\nOne.\tÄis.\nTwo.\t\n", "2.*no text in gsw|3.*no text in gsw"),
        ("en\tgsw\nOne.\tÄis.\n\tZwöi.\n", "no translation of it"),
        ("en\tgsw\n", "no rows"),
        ("de\ten\tgsw\n" + 20 * "1\tOne.\tÄis.\n", "column 'de' is taken for de_DE, but no text in it has a letter"),
        ("en\tgsw\nOne.\tÄis.\n", "at least 10 are needed"),
        ("en\tgsw\n" + 20 * "One.\tÄis.\n", "repeats 1 sentence: none is left"),
    ],
)
def test_files_that_will_not_do(base_run, tmp_path, content, said):
    path = tmp_path / "pairs.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        extend(base_run.output_dir, "gsw", parallel=path, output_dir=tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists()


def test_text_or_translations(base_run, pairs, tmp_path):
    folder = base_run.output_dir
    with pytest.raises(ConfigurationError, match="Give either --text or"):
        extend(folder, "gsw", output_dir=tmp_path / "out")
    with pytest.raises(ConfigurationError, match="Give either --text or"):
        extend(folder, "gsw", pairs, parallel=pairs, output_dir=tmp_path / "out")
    for name, value in (("objective", "contrast"), ("prefix", "query: "), ("temperature", 0.1)):
        with pytest.raises(ConfigurationError, match=f"--{name} .* goes with --parallel"):
            extend(folder, "gsw", pairs, output_dir=tmp_path / "out", **{name: value})
    with pytest.raises(ConfigurationError, match=r"--temperature 0\.1 is for --objective contrast"):
        extend(folder, "gsw", parallel=pairs, temperature=0.1, output_dir=tmp_path / "out")
    with pytest.raises(ConfigurationError, match="--new-vocabulary 100 goes with --text"):
        extend(folder, "gsw", parallel=pairs, new_vocabulary=100, output_dir=tmp_path / "out")
    for name, value in (("packing", "lines"), ("mask_probability", 0.3), ("text_field", "x"), ("start_rows", "random")):
        with pytest.raises(ConfigurationError, match=f"--{name.replace('_', '-')} {value} goes with --text"):
            extend(folder, "gsw", parallel=pairs, output_dir=tmp_path / "out", **{name: value})


def test_more_batches_than_pairs_are_refused_before_the_folder_is_taken(base_run, pairs, tmp_path):
    with pytest.raises(ConfigurationError, match="a step has 200 batches"):
        extend(base_run.output_dir, "gsw", parallel=pairs, accumulation=200, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_tokenizer_the_advice_is_one_that_helps(base_run, pairs, tmp_path):
    model = XmodForMaskedLM.from_pretrained(base_run.output_dir)
    model.save_pretrained(tmp_path / "bare")
    with pytest.raises(DataError, match=r"no tokenizer with the model in .*bare: save"):
        extend(tmp_path / "bare", "gsw", parallel=pairs, output_dir=tmp_path / "out")
    model.config._name_or_path = ""
    with pytest.raises(DataError, match="is not from a folder: save"):
        extend(model, "gsw", parallel=pairs, output_dir=tmp_path / "out")


def test_an_adapter_that_harms_is_called_so(capsys):
    """Of 200 sentences 180 found their translation before and 120 do now, and 175 in a second case."""
    values = {"cosine": 0.9, "loss": 1.0}
    measured = Aligned((Encoding(0, ((5,),)),) * 200, np.zeros((200, 4), np.float32), np.arange(200), 1, 0)
    for after, harms in ((0.6, True), (0.875, False)):
        before = {"de": {**values, "retrieval": 0.9}}
        metrics = {"best_existing": "de", "existing": before, "start": before["de"]}
        print_scores("gsw", {**metrics, "after": {**values, "retrieval": after}}, measured, 5e-4)
        said = " ".join(capsys.readouterr().err.split())
        assert ("The adapter is harmful" in said) == harms
        assert "90.0%" in said


@pytest.mark.parametrize(
    "shape", [{}, {"adapter_layer_norm": True, "adapter_reuse_layer_norm": False}, {"pre_norm": True}]
)
def test_a_linear_adapter_undoes_a_linear_change_without_training(base_run, tmp_path, shape):
    """A language whose states are those of German, turned a little: the map that turns them back is found."""
    from xmodular.training.linear_adapter import solve_adapter

    model = tiny_model(XmodModel, languages=["de_DE", "gsw"], hidden_dropout_prob=0.0, seed=1, **shape)
    make_neutral(model, "gsw")
    draw = np.random.default_rng(0)
    encodings = tuple(Encoding(n, (tuple(draw.integers(5, 50, 4 + n % 5).tolist()),)) for n in range(240))
    hidden = model.config.hidden_size
    none = Aligned(encodings, np.zeros((240, hidden), np.float32), np.arange(240), 1, model.config.pad_token_id)
    states = Aligned.read(model.eval(), encodings, "gsw")
    turn = np.linalg.qr(np.eye(hidden) + 0.1 * draw.normal(size=(hidden, hidden)))[0]
    turn *= np.sign(np.diag(turn))
    targets = (states @ turn + 0.5 * draw.normal(size=hidden)).astype(np.float32)
    taught, held = (
        replace(none, encodings=encodings[part], targets=targets[part], right=np.arange(240)[part] - part.start)
        for part in (slice(0, 200), slice(200, 240))
    )
    before = held.scores(model)
    others = {name: weight.clone() for name, weight in model.state_dict().items() if "gsw" not in name}
    solve_adapter(model, "gsw", taught, 256)
    after = held.scores(model)
    assert after["retrieval"] > before["retrieval"]
    assert after["loss"] < 0.5 * before["loss"]
    assert_same_state(others, {name: weight for name, weight in model.state_dict().items() if "gsw" not in name})
    assert model.config.layout == "packed"


def test_a_linear_adapter_is_written_as_a_run(base_run, pairs, tmp_path):
    run = extend(base_run.output_dir, "gsw", parallel=pairs, objective="linear", output_dir=tmp_path / "run")
    assert run.metrics["steps"] == 0
    assert run.metrics["after"]["retrieval"] > run.metrics["start"]["retrieval"]
    certificate = diff(base_run.output_dir, tmp_path / "run")
    assert certificate.added == {"gsw"}
    assert not certificate.changed
    with pytest.raises(ConfigurationError, match="starts from neutral"):
        extend(
            base_run.output_dir, "gsw", parallel=pairs, objective="linear", init_from="de", output_dir=tmp_path / "o"
        )


def test_a_fine_tuned_model_gets_a_new_adapter_for_a_language_it_has(topic_run, pairs, tmp_path):
    """The adapter is fitted to the tuned encoder; the head, the other languages and the ids stay."""
    tuned = topic_run.output_dir
    rows = tmp_path / "pairs.tsv"
    rows.write_text(pairs.read_text(encoding="utf-8").replace("de\tgsw", "en\tde", 1), encoding="utf-8")
    run = extend(tuned, "German", parallel=rows, objective="linear", replace=True, output_dir=tmp_path / "run")
    assert set(run.metrics["existing"]) == {"en_XX"}
    assert run.metrics["after"]["retrieval"] > run.metrics["start"]["retrieval"]
    assert run.model.languages == topic_run.model.languages
    assert type(run.model) is type(topic_run.model)
    assert run.model.config.task_language == "en_XX"
    certificate = diff(tuned, tmp_path / "run")
    assert certificate.changed == {"de_DE"}
    assert not certificate.added
    assert "fine-tuned" in json.loads((tmp_path / "run" / "pack" / "pack.json").read_text())["note"]
    told, before = Predictor(tmp_path / "run"), Predictor(tuned)
    assert told.room == before.room
    text = {"text": "the doctor opens the house", "language": "en"}
    assert told([text]) == before([text])
    with pytest.raises(LanguageError, match="--replace gives it a new adapter"):
        extend(tuned, "de", parallel=rows, output_dir=tmp_path / "other")
    with pytest.raises(LanguageError, match="gsw"):
        extend(tuned, "gsw", parallel=pairs, replace=True, output_dir=tmp_path / "other")
    with pytest.raises(ConfigurationError, match="needs a masked-LM head"):
        extend(tuned, "gsw", tmp_path / "gsw.txt", output_dir=tmp_path / "other")


def test_a_language_is_trained_anew_on_text(base_run, corpus, tmp_path):
    run = extend(base_run.output_dir, "de", corpus / "text", replace=True, output_dir=tmp_path / "run", **SMALL)
    assert "de_DE" not in run.metrics["existing"]
    assert run.metrics["after"]["loss"] < run.metrics["start"]["loss"]
    assert diff(base_run.output_dir, tmp_path / "run").changed == {"de_DE"}


@pytest.fixture(scope="module")
def english_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of English and a made-up language, English with its letters turned."""
    draw, path = random.Random(5), tmp_path_factory.mktemp("english") / "pairs.tsv"
    english = [sentence("en_XX", draw) for _ in range(220)]
    path.write_text("en\tgsw\n" + "".join(f"{each}\t{turned(each)}\n" for each in english))
    return path


@pytest.fixture(scope="module")
def opinionated(topic_run, english_pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classifier with a head that tells sentences apart: its output, made larger around its mean. No dropout."""
    model, tokenizer = load_saved(topic_run.output_dir).eval(), topic_run.tokenizer
    lines = [line.split("\t")[0] for line in english_pairs.read_text().splitlines()[1:41]]
    with torch.inference_mode():
        batch = tokenizer(lines, return_tensors="pt", padding=True, truncation=True, max_length=32)
        logits = model(**batch, lang_ids=model.lang_ids(["en"] * len(lines))).logits
    scale = 1 / logits.std(0).mean()
    with torch.no_grad():
        model.classifier.out_proj.bias.copy_(scale * (model.classifier.out_proj.bias - logits.mean(0)))
        model.classifier.out_proj.weight.mul_(scale)
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    folder = tmp_path_factory.mktemp("opinionated")
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder, model.config)
    return folder


def test_an_adapter_learns_what_a_classifier_predicts_for_translations(opinionated, english_pairs, tmp_path):
    how = SMALL | {"max_steps": 200, "learning_rate": 1e-2, "objective": "predictions"}
    run = extend(opinionated, "gsw", parallel=english_pairs, output_dir=tmp_path / "run", **how)
    assert run.metrics["after"]["divergence"] < 0.5 * run.metrics["start"]["divergence"]
    certificate = diff(opinionated, tmp_path / "run")
    assert (certificate.added, certificate.changed) == ({"gsw"}, set())


def test_the_divergence_is_that_of_a_plain_computation(opinionated, topic_run, english_pairs, tmp_path):
    """Held-out sentences one by one, two translations of each: the mean of their log-probabilities, normalised."""
    model, tokenizer = load_saved(opinionated).eval(), topic_run.tokenizer
    pairs = [
        replace(pair, translations={**pair.translations, "de_DE": pair.text})
        for pair in read_pairs(str(english_pairs), "gsw", LANGUAGES)[:12]
    ]
    options = ExtendOptions(model=".", language="gsw", parallel=str(english_pairs), output_dir=tmp_path)
    measured = Imitated(*encoded(model, pairs, options, Imitated), 0, model.config.pad_token_id)

    def log_probabilities(text: str, language: str) -> torch.Tensor:
        with torch.inference_mode():
            made = model(
                **tokenizer(text, return_tensors="pt", truncation=True, max_length=32),
                lang_ids=model.lang_ids([language]),
            )
        return made.logits[0].double().log_softmax(-1)

    divergences, agreed = [], []
    for pair in pairs:
        wanted = sum(log_probabilities(text, language) for language, text in pair.translations.items()) / 2
        wanted, own = wanted.log_softmax(-1), log_probabilities(pair.text, model.languages[0])
        divergences.append(float((wanted.exp() * (wanted - own)).sum()))
        agreed.append(int(wanted.argmax() == own.argmax()))
    scores = measured.scores(model)
    assert scores["divergence"] == pytest.approx(np.mean(divergences), abs=1e-5)
    assert scores["agreement"] == pytest.approx(np.mean(agreed))


def test_predictions_are_learned_by_fine_tuned_classifiers_only(base_run, pairs, tmp_path):
    with pytest.raises(ConfigurationError, match="for fine-tuned classifiers"):
        extend(base_run.output_dir, "gsw", parallel=pairs, objective="predictions", output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_classifier_from_elsewhere_is_told_what_it_lacks(opinionated, english_pairs, tmp_path):
    model, how = load_saved(opinionated), {"parallel": english_pairs, "objective": "predictions"}
    model.config.task_language = None
    with pytest.raises(ConfigurationError, match="does not record in which language it was fine-tuned"):
        extend(model, "gsw", output_dir=tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()
