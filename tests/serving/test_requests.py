"""What a server answers: the predictions of a `Predictor`, or a status and a sentence."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httptools", reason="needs the extra: pip install 'xmodular[serve]'")
pytest.importorskip("uvicorn", reason="needs the extra: pip install 'xmodular[serve]'")

from tests.prediction.conftest import SENTENCES
from tests.serving.conftest import FOLDERS, Client, serving
from xmodular import Predictor
from xmodular.errors import ConfigurationError

TEXTS = [(text, code) for code, texts in SENTENCES.items() for text in texts]
ROWS: dict[str, dict[str, Any]] = {
    "topic": {"premise": "The house is old.", "hypothesis": "She likes bread."},
    "names": {"words": ["Врач", "открывает", "дом"], "language": "ru"},
    "answers": {"question": "Who opens?", "context": "The doctor opens the old house. " * 20, "language": "en"},
    "choice": {"premise": "She likes bread.", "question": "effect", "choices": ["She eats.", "She sleeps."]},
    "mood": {"text": "Die Ärztin öffnet das Haus.", "language": "German"},
}


def alike(found: Any, expected: Any) -> bool:
    """Whether predictions are equal but for rounding, which depends on the batch."""
    if isinstance(expected, float):
        return bool(found == pytest.approx(expected, abs=2e-4))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(alike(found[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(alike, found, expected))
    return bool(found == expected)


@pytest.mark.parametrize("name", FOLDERS)
def test_each_task_answers_as_its_predictor(client: Client, folders: dict[str, Path], name: str) -> None:
    predictor = Predictor(folders[FOLDERS[name]], identify=True)
    answer = client.post({"rows": [ROWS[name]] * 2}, f"/models/{name}/predict")
    assert answer.status == 200, answer.body
    assert answer.json["model"] == name
    assert alike(answer.json["predictions"], predictor([ROWS[name]] * 2))


@pytest.mark.parametrize(
    "row",
    [
        {"premise": "She likes bread.", "choice1": "She eats.", "choice2": "She sleeps.", "question": "effect"},
        {"sent1": "She likes bread.", "sent2": "She", "ending0": "eats.", "ending1": "sleeps.", "ending2": "opens."},
        {"question": "Who opens?", "A": "She.", "B": "Bread.", "C": "A house.", "D": "He."},
    ],
)
def test_choices_may_have_a_field_each(client: Client, folders: dict[str, Path], row: dict[str, Any]) -> None:
    row["language"] = "en"
    answer = client.post(row, "/models/choice/predict")
    assert answer.status == 200, answer.body
    assert alike(answer.json["predictions"], Predictor(folders[FOLDERS["choice"]], identify=True)([row]))
    short = client.post({"premise": "She likes bread.", "choice1": "She eats."}, "/models/choice/predict")
    assert short.status == 422
    needed = "'premise' and 'choices', or 'premise' and 'choice1' and 'choice2'."
    assert short.json["error"]["message"].endswith(needed)


def test_many_clients_in_many_languages_get_their_own_answers(client: Client, topic: Path) -> None:
    expected = dict(
        zip(TEXTS, Predictor(topic, identify=True)([t for t, _ in TEXTS], [c for _, c in TEXTS]), strict=True)
    )

    def ask(number: int) -> bool:
        own = [TEXTS[(number + step) % len(TEXTS)] for step in range(1 + number % 3)]
        answer = client.post({"model": "topic", "rows": [{"text": text, "language": code} for text, code in own]})
        return answer.status == 200 and alike(answer.json["predictions"], [expected[each] for each in own])

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, range(120)))


def test_a_body_is_a_text_a_list_or_an_object(topic: Path) -> None:
    text = TEXTS[0][0]
    with serving({"topic": topic}) as client:
        (expected,) = Predictor(topic, identify=True)([text], "de")
        found = client.post({"text": text, "language": "de"})
        assert found.status == 200
        assert found.headers["content-type"] == "application/json"
        assert alike(found.json, {"model": "topic", "predictions": [expected]})
        assert client.post({"rows": [text], "language": "de"}).json == found.json
        assert client.post([{"sentence": text, "language": "German"}]).json == found.json
        identified = client.post(text).json
        assert identified == client.post([text]).json == client.post({"text": text, "model": "topic"}).json
        assert identified["predictions"][0]["adapter"] == "en_XX"
        assert 0 < identified["predictions"][0]["confidence"] <= 1


def test_probabilities_are_for_who_asks(client: Client) -> None:
    row = {"text": TEXTS[0][0], "language": "en", "model": "topic"}
    with ThreadPoolExecutor(8) as pool:  # so that both kinds share batches
        asked = [number % 2 == 0 for number in range(40)]
        found = list(pool.map(lambda wanted: client.post({**row, "probabilities": wanted}).json, asked))
    for wanted, answer in zip(asked, found, strict=True):
        (prediction,) = answer["predictions"]
        assert ("probabilities" in prediction) == wanted
        if wanted:
            assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-4)
            assert prediction["probabilities"][prediction["label"]] == pytest.approx(prediction["score"])


REFUSED: list[tuple[Any, int, str]] = [
    (b"", 400, "not JSON"),
    (b"{", 400, "not JSON"),
    (b'"\xff"', 400, "not UTF-8: byte 1 is 0xff"),
    (b"\xef\xbb\xbf[]", 400, "byte order mark"),
    ('{"text": "a"}'.encode("utf-16"), 400, "not UTF-8"),
    (b'{"text": NaN}', 400, "NaN is no number of JSON"),
    (b"[" * 100_000, 400, "nested too deeply"),
    (b"1" * 5000, 400, "not JSON"),
    (b'{"text": "a", "text": "b"}', 400, "'text' appears twice"),
    (b"null", 422, "it is null"),
    (b"3.5", 422, "the number 3.5"),
    (b"[]", 422, "no rows"),
    (b'{"rows": []}', 422, "no rows"),
    (b'{"rows": "a"}', 422, "'rows' must be a list of texts and objects; it is the text 'a'"),
    (b'{"rows": ["a"], "lang": "de"}', 422, "no 'lang' beside 'rows'"),
    (b'{"rows": ["a"], "language": 3}', 422, "'language' must be a name; it is the number 3"),
    (b'{"text": "a", "probabilities": "yes"}', 422, "'probabilities' must be true or false; it is the text 'yes'"),
    (b'{"text": "a", "model": "other"}', 422, "no model 'other'; the models are topic"),
    (b'["a", 7]', 422, r"rows\[1\] must be a text or an object; it is the number 7"),
    (b'["a", ""]', 422, r"rows\[1\] has text, but a row for classify has 'text', or 'premise' and 'hypothesis'"),
    (b'{"txt": "a"}', 422, "the row has txt, but a row for classify has 'text'"),
    (b'{"premise": "a"}', 422, "'premise' and 'hypothesis'"),
    (b'{"text": ["a"]}', 422, "'text' must be a non-empty text"),
    (b'{"text": "   "}', 422, "'text' must be a non-empty text"),
    (b'{"text": "\\ud800"}', 422, "unpaired surrogate"),
    (b'{"text": "a", "\\ud800": 1}', 422, "unpaired surrogate"),
    (b'{"text": "a", "language": 3}', 422, "'language' must be a code or a name; it is 3"),
    (b'{"text": "a", "language": "Klingon"}', 422, "Klingon"),
    (b'{"text": "a", "premise": "b", "hypothesis": "c"}', 422, "both a 'text' and a 'premise'"),
    (json.dumps(["a"] * 300).encode(), 413, "300 rows; it may have 256"),
    (json.dumps({"text": "a" * 20_001}).encode(), 413, "20,001 characters; it may have 20,000"),
    (b'"' + b"a" * 2_000_000 + b'"', 413, "2,000,002 bytes; it may have 1,000,000"),
]


@pytest.fixture(scope="module")
def single(topic: Path) -> Any:
    with serving({"topic": topic}) as made:
        yield made


@pytest.mark.parametrize(("body", "status", "said"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_wrong_is_said(single: Client, body: bytes, status: int, said: str) -> None:
    answer = single.post(body)
    assert answer.status == status, answer.body
    assert re.search(said, answer.message), answer.message
    assert "--columns" not in answer.message
    assert single.post("The house").status == 200


def test_headers_and_addresses(client: Client) -> None:
    body, kind = b'{"text": "a", "model": "topic"}', {"Content-Type": "application/json; charset=utf-8"}
    assert client.ask("POST", "/predict", body, kind).status == 200
    for headers, status in (
        ({}, 415),
        ({"Content-Type": "text/plain"}, 415),  # which pages of other sites may send without asking
        ({**kind, "Content-Encoding": "gzip"}, 415),
        ({**kind, "Host": "evil.example"}, 421),
        ({**kind, "Host": "localhost:1"}, 200),
    ):
        assert client.ask("POST", "/predict", body, headers).status == status, headers
    assert client.ask("GET", "/predict").status == 405
    assert client.ask("GET", "/predict").headers["allow"] == "POST"
    assert client.get("/nowhere").status == 404
    assert client.post("a", "/models/none/predict").status == 404
    assert "names" in client.post({"text": "a"}).message  # there are several models
    assert "answers" in client.post({"text": "a", "model": "names"}, "/models/answers/predict").message
    answer = client.post("a", "/models/answers/predict")
    assert answer.status == 422
    assert "'question' and 'context'" in answer.message
    assert client.post({"text": "a", "probabilities": True}, "/models/mood/predict").status == 422


def test_a_body_without_a_length_is_limited_too(single: Client) -> None:
    parts = (b"a" * 1000 for _ in range(1200))
    answer = single.ask("POST", "/predict", parts, {"Content-Type": "application/json"})
    assert answer.status == 413


def test_a_row_of_too_many_tokens(folders: dict[str, Path]) -> None:
    with serving({"answers": folders["XmodForQuestionAnswering"]}, max_tokens=500) as client:
        row = {"question": "Who?", "context": "The doctor opens the house. " * 60, "language": "en"}
        answer = client.post({"rows": [row]})
        assert answer.status == 413
        assert re.search(r"rows\[0\] has [\d,]+ tokens; a row may have 500", answer.message)
        assert client.get("/health").json["waiting_rows"] == {"answers": 0}


def test_languages_are_not_identified_where_they_are_not_to_be(topic: Path) -> None:
    with serving({"topic": topic}, identify=False) as client:
        assert re.search("no 'language'.*give one of en_XX, de_DE", client.post("The house").message)
        answer = client.post({"text": "Das Haus", "language": "de"}).json["predictions"][0]
        assert "confidence" not in answer


def test_health_models_and_measures(single: Client) -> None:
    assert single.get("/health").json == {"status": "ok", "waiting_rows": {"topic": 0}}
    (model,) = single.get("/models").json["models"]
    assert model["labels"] == ["calm", "glad", "sad"]
    assert model["languages"] == list(SENTENCES)
    before = samples(single)
    single.post({"rows": ["The house", "The river", "The bread"], "language": "sw"})
    single.post(b"[")
    after = samples(single)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('xmodular_rows_total{model="topic",adapter="sw_KE"}') == 3
    assert grown('xmodular_requests_total{model="topic",status="200"}') == 1
    assert grown('xmodular_requests_total{model="",status="400"}') == 1
    assert grown('xmodular_batch_rows_count{model="topic"}') == 1
    assert grown('xmodular_batch_rows_bucket{model="topic",le="2"}') == 0
    assert grown('xmodular_batch_rows_bucket{model="topic",le="4"}') == 1
    assert grown('xmodular_request_seconds_count{model="topic"}') == 1
    assert after['xmodular_queue_rows{model="topic"}'] == 0


def samples(client: Client) -> dict[str, float]:
    """The samples of /metrics; every line must have the form of the format."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for line in answer.body.decode().splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP \w+ .+|TYPE \w+ (counter|gauge|histogram))", line)
        else:
            name, labels, value = re.fullmatch(r"(\w+)(\{[^}]*\})? (\S+)", line).groups()  # type: ignore[union-attr]
            found[f"{name}{labels or ''}"] = float(value)
    return found


def test_the_description_is_of_this_server(client: Client) -> None:
    said = client.get("/openapi.json").json
    assert said["openapi"] == "3.1.0"
    assert client.service.routes.keys() == said["paths"].keys()

    def check(part: Any) -> None:
        if isinstance(part, dict):
            if "$ref" in part:
                target = said
                for step in part["$ref"].removeprefix("#/").split("/"):
                    target = target[step]
            for each in part.values():
                check(each)
        elif isinstance(part, list):
            for each in part:
                check(each)

    check(said)
    for path, methods in said["paths"].items():
        if "get" in methods:
            assert client.get(path).status == 200
        else:
            sample = methods["post"]["requestBody"]["content"]["application/json"]["example"]
            assert client.post(sample, path).status == 200


def test_the_page_needs_nothing_from_elsewhere(single: Client) -> None:
    answer = single.get("/")
    text = answer.body.decode()
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"(?:src|href)=\"(?!data:|openapi|models|health|metrics)", text)
    assert "http" not in text.replace("http-equiv", "")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for line in re.findall(r" style=\"| on\w+=\"", text):
        raise AssertionError(f"{line} is against the policy")


def test_threads_end(topic: Path) -> None:
    before = threading.active_count()
    with serving({"topic": topic}) as client:
        client.post("The house")
    assert threading.active_count() <= before


def test_languages_stay_on_disk_until_they_are_asked_for(topic: Path) -> None:
    """All languages, in the memory of one; a client cannot tell."""
    whole = Predictor(topic)
    with serving({"topic": topic}, resident_languages=1) as lazy:
        assert 'xmodular_resident_languages{model="topic"} 0' in lazy.get("/metrics").body.decode()
        for code, lines in SENTENCES.items():
            answer = lazy.post({"rows": lines, "language": code})
            assert answer.status == 200
            expected = whole(lines, code)
            for found, one in zip(answer.json["predictions"], expected, strict=True):
                assert (found["label"], found["adapter"]) == (one["label"], code)
                assert found["score"] == pytest.approx(one["score"], abs=1e-5)
            assert lazy.service.batchers["topic"].predictor.model.resident_languages == (code,)
        mixed = lazy.post([{"text": lines[0], "language": code} for code, lines in SENTENCES.items()])
        assert [each["adapter"] for each in mixed.json["predictions"]] == list(SENTENCES)
        assert 'xmodular_resident_languages{model="topic"} 1' in lazy.get("/metrics").body.decode()


def test_a_predictor_of_few_languages_in_memory(folders: dict[str, Path]) -> None:
    for name, kind in FOLDERS.items():
        row = {field: value for field, value in ROWS[name].items() if field != "language"}
        whole, few = Predictor(folders[kind]), Predictor(folders[kind], resident_languages=1)
        assert few([row] * 4, list(SENTENCES)) == whole([row] * 4, list(SENTENCES))
        assert few.model.resident_languages == ("ru_RU",)
    with pytest.raises(ConfigurationError, match="a model object has all its languages in memory"):
        Predictor(whole.model, resident_languages=1)


def test_a_sentence_in_two_languages(topic: Path) -> None:
    text = f"{SENTENCES['de_DE'][0]} {SENTENCES['ru_RU'][0]}"
    with serving({"topic": topic}, identify="spans", identify_languages=("de", "ru")) as client:
        (found,) = client.post({"rows": [text]}).json["predictions"]
    predictor = Predictor(topic, identify="spans", identify_languages=["de", "ru"])
    assert alike(found, predictor([text])[0])
    assert [span["adapter"] for span in found["language_spans"]] == ["de_DE", "ru_RU"]


class Panic(BaseException):
    """As the tokenizer's, which is no Exception."""


@pytest.mark.parametrize("error", [Panic("here"), StopIteration("there")])
def test_an_error_of_any_kind_is_said(topic: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fails(*rows: Any) -> Any:
        raise error

    row = {"text": "Das Haus", "language": "de"}
    with serving({"topic": topic}) as client:
        with monkeypatch.context() as patched:
            patched.setattr(client.service.batchers["topic"].predictor, "encode", fails)
            answer = client.post(row)
            assert answer.status == 500
            assert answer.message.startswith("The model failed on this request")
        assert client.post(row).status == 200
        assert 'status="500"} 1' in client.get("/metrics").body.decode()
