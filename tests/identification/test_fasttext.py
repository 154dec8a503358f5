"""fastText's models as identifiers: a stand-in with the packages' interface, and the real thing where it is there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from xmodular import FastTextIdentifier, Predictor, predict
from xmodular.errors import ConfigurationError, DataError, InputError
from xmodular.identification import chosen_identifier, fasttext_models

LABELS = ("deu_Latn", "swh_Latn", "eng_Latn", "arb_Arab", "arz_Arab", "cmn_Hani", "kor_Hang", "und_Zyyy", "xxq_Latn")
LANGUAGES = ("en_XX", "de_DE", "sw_KE", "ar_AR", "zh_CN", "zh_TW", "ko_KR", "gsw")


class Stub:
    """What the packages have inside: a text with its line end in, pairs of a probability and a label out."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def predict(self, text: str, k: int, threshold: float, on_unicode_error: str) -> list[tuple[float, str]]:
        assert text.endswith("\n")
        assert "\n" not in text[:-1]  # what comes after would not be read
        text.encode()  # surrogates are an error
        self.asked.append(text)
        first = "arb" if "ع" in text else "cmn" if "國" in text or "国" in text else "kor" if "한" in text else "deu"
        order = sorted(LABELS, key=lambda label: not label.startswith(first))
        given = [(0.55, order[0]), (0.4, "arz_Arab")] if first == "arb" else [(1.00001, order[0])]
        rest = [(1e-5, label) for label in order if label not in [name for _, name in given]]
        found = [(p, f"__label__{label}") for p, label in [*given, *rest] if p >= threshold]
        return found if k == -1 else found[:k]


class OfOldPackages:
    """fasttext and fasttext-wheel up to 0.9.3 under NumPy 2."""

    def __init__(self) -> None:
        self.f = Stub()

    def predict(self, text: str, k: int = 1, threshold: float = 0.0, on_unicode_error: str = "strict") -> Any:
        raise ValueError("Unable to avoid copy while creating an array as requested.")


class OfNewPackages:
    """With nothing inside that is known."""

    def __init__(self) -> None:
        self._inside = Stub()

    def predict(self, text: str, k: int = 1, threshold: float = 0.0) -> tuple[tuple[str, ...], tuple[float, ...]]:
        pairs = self._inside.predict(text + "\n", k, threshold, "strict")
        return tuple(name for _, name in pairs), tuple(p for p, _ in pairs)


@pytest.fixture(params=[OfOldPackages, OfNewPackages])
def stand_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    model = request.param()
    monkeypatch.setattr(fasttext_models, "_loaded", lambda path: model)
    return model


def test_labels_become_codes(stand_in: Any) -> None:
    found = chosen_identifier("glotlid:model.bin", LANGUAGES)
    assert found is not None
    assert found.known == tuple(code for code in LANGUAGES if code != "gsw")
    assert found.unknown == ("gsw",)
    texts = ["das Haus", "بيت ع", "我國", "我国", "한국"]
    assert [each.language for each in found(texts)] == ["de_DE", "ar_AR", "zh_TW", "zh_CN", "ko_KR"]
    confidences = [each.confidence for each in found(texts)]
    assert confidences == pytest.approx([1.0, 0.95, 1.0, 1.0, 1.0], abs=1e-3)  # varieties of Arabic are added up
    assert max(confidences) <= 1
    few = chosen_identifier("glotlid:model.bin", LANGUAGES, ["sw"])
    assert few is not None
    assert [each.language for each in few(["das Haus", "بيت ع"])] == ["sw_KE"] * 2
    assert few(["das Haus"])[0].confidence < 1e-4  # among the ten most probable, and no more than that


def test_what_a_text_may_have_in_it(stand_in: Any) -> None:
    identifier = FastTextIdentifier("model.bin", labels=1)
    assert identifier.knows == tuple(
        f"__label__{label}" for label in sorted(LABELS, key=lambda each: each != "deu_Latn")
    )
    odd = ["eins\nzwei\r\ndrei\u2028vier", "a\0b", "half \ud83d", "<b>das</b> <mask>", "12 !", "", "   \n", "x" * 5000]
    answers = identifier(odd)
    assert [bool(each) for each in answers] == [True, True, True, True, False, False, False, True]
    inside = getattr(stand_in, "f", None) or stand_in._inside
    asked = inside.asked[1:]
    assert asked[0] == "eins zwei drei vier\n"
    assert asked[1:4] == ["a b\n", "half ?\n", "das\n"]
    assert len(asked[4]) == 1001
    with pytest.raises(InputError, match="give a list of texts"):
        identifier("das Haus")
    with pytest.raises(ConfigurationError, match="at least 1"):
        FastTextIdentifier("model.bin", labels=0)


def test_a_model_of_other_labels_is_refused(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fasttext_models, "_predicted", lambda *given: {"__label__positive": 0.9, "__label__xqz": 0.1})
    with pytest.raises(ConfigurationError, match="knows no language: its labels are __label__positive"):
        chosen_identifier("fasttext:model.bin", LANGUAGES)

    def unsupervised(*given: Any) -> Any:
        raise ValueError("Model needs to be supervised for prediction!")

    monkeypatch.setattr(fasttext_models, "_predicted", unsupervised)
    with pytest.raises(DataError, match=r"model.bin is no model that labels texts: Model needs to be supervised"):
        chosen_identifier("fasttext:model.bin", LANGUAGES)


def test_a_file_that_was_exchanged_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        read: list[bytes] = []

        @classmethod
        def load_model(cls, path: str) -> OfNewPackages:
            cls.read.append(Path(path).read_bytes())
            return OfNewPackages()

    monkeypatch.setitem(sys.modules, "fasttext", Reader)
    path = tmp_path / "lid.bin"
    path.write_bytes(b"one")
    FastTextIdentifier(path)
    monkeypatch.chdir(tmp_path)
    FastTextIdentifier("lid.bin")  # the same file
    assert Reader.read == [b"one"]
    before = path.stat()
    path.write_bytes(b"longer")
    FastTextIdentifier(path)
    path.write_bytes(b"change")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))  # of the same size
    FastTextIdentifier(path)
    assert Reader.read == [b"one", b"longer", b"change"]


# With the package: a model of three languages, trained in the test.

SENTENCES = {
    "deu_Latn": ["die Ärztin öffnet das alte Haus", "sie mag Brot und Wasser", "der Fluss ist tief und kalt"],
    "swh_Latn": ["daktari anafungua nyumba ya zamani", "anapenda mkate na maji", "mto ni wa kina na baridi"],
    "eng_Latn": ["the doctor opens the old house", "she likes bread and water", "the river is deep and cold"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fasttext = pytest.importorskip("fasttext")
    if not hasattr(fasttext, "train_supervised"):
        pytest.skip("fasttext-predict cannot train a model")
    folder = tmp_path_factory.mktemp("fasttext")
    lines = [f"__label__{label} {text}" for label, texts in SENTENCES.items() for text in texts * 20]
    (folder / "train.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = fasttext.train_supervised(
        str(folder / "train.txt"), dim=8, minn=2, maxn=4, epoch=30, bucket=5000, verbose=0
    )
    model.save_model(str(folder / "lid.bin"))
    model.quantize(str(folder / "train.txt"))
    model.save_model(str(folder / "lid.ftz"))
    return folder


@pytest.mark.parametrize("suffix", ["bin", "ftz"])
def test_a_real_model(trained: Path, suffix: str) -> None:
    found = chosen_identifier(f"fasttext:{trained / 'lid'}.{suffix}", ["en_XX", "de_DE", "sw_KE", "fr_XX"])
    assert found is not None
    assert found.unknown == ("fr_XX",)
    answers = found(["das Brot\nist alt", "nyumba ya maji", "the house", "12"])
    assert [each.language for each in answers] == ["de_DE", "sw_KE", "en_XX", None]
    assert all(0 <= each.confidence <= 1 for each in answers)


def test_verbs_with_a_real_model(trained: Path, topic_run: Any, tmp_path: Path) -> None:
    from xmodular import embed

    name = f"fasttext:{trained / 'lid.bin'}"
    rows = [{"text": "das Brot ist alt"}, {"text": "nyumba ya maji"}]
    read = Predictor(topic_run.output_dir, identify=name)(rows)
    assert [row["language"] for row in read] == ["de_DE", "sw_KE"]
    embed(topic_run.output_dir, rows, tmp_path / "out.parquet", identify=name)
    predict(topic_run.output_dir, rows, tmp_path / "out", shard_rows=1, identify=name)
