"""Identification of languages: right on sentences, within the languages given, and never at a loss with any text."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from functools import lru_cache
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodular.catalogue import RELEASES
from xmodular.demo.parallel_corpus import LANGUAGES, sentences
from xmodular.errors import InputError, LanguageError
from xmodular.identification import THRESHOLD, Identified, Identifier
from xmodular.vocabulary import train_tokenizer

ALL = RELEASES["xmod-base"].languages
DATA = Path(__file__).parents[2] / "shared" / "data" / "sib200"

SENTENCES = {
    "en_XX": "The train to the coast leaves at seven in the morning.",
    "de_DE": "Der Zug an die Küste fährt morgens um sieben Uhr ab.",
    "fr_XX": "Le train pour la côte part à sept heures du matin.",
    "es_XX": "El tren a la costa sale a las siete de la mañana.",
    "it_IT": "Il treno per la costa parte alle sette del mattino.",
    "pt_XX": "O trem para o litoral sai às sete horas da manhã.",
    "nl_XX": "De trein naar de kust vertrekt om zeven uur 's ochtends.",
    "sv_SE": "Tåget till kusten går klockan sju på morgonen.",
    "fi_FI": "Juna rannikolle lähtee kello seitsemän aamulla.",
    "pl_PL": "Pociąg nad morze odjeżdża o siódmej rano.",
    "cs_CZ": "Vlak k pobřeží odjíždí v sedm hodin ráno.",
    "hu_HU": "A tengerpartra tartó vonat reggel hétkor indul.",
    "tr_TR": "Sahile giden tren sabah saat yedide kalkıyor.",
    "vi_VN": "Chuyến tàu ra biển khởi hành lúc bảy giờ sáng.",
    "sw_KE": "Treni ya kwenda pwani inaondoka saa moja asubuhi.",
    "ru_RU": "Поезд на побережье отправляется в семь часов утра.",
    "uk_UA": "Потяг до узбережжя вирушає о сьомій годині ранку.",
    "el_GR": "Το τρένο για την ακτή φεύγει στις επτά το πρωί.",
    "he_IL": "הרכבת אל החוף יוצאת בשבע בבוקר.",
    "ar_AR": "يغادر القطار المتجه إلى الساحل في السابعة صباحا.",
    "fa_IR": "قطار ساحل ساعت هفت صبح حرکت می‌کند.",
    "hi_IN": "तट की ओर जाने वाली रेलगाड़ी सुबह सात बजे चलती है।",
    "ta_IN": "கடற்கரைக்குச் செல்லும் ரயில் காலை ஏழு மணிக்குப் புறப்படுகிறது.",
    "th_TH": "รถไฟไปชายทะเลออกเวลาเจ็ดโมงเช้า",
    "ja_XX": "海岸へ行く電車は朝の七時に出発します。",
    "ko_KR": "해안으로 가는 기차는 아침 일곱 시에 출발합니다.",
    "zh_CN": "开往海边的火车早上七点出发。",
    "zh_TW": "開往海邊的火車早上七點出發。",
    "ka_GE": "მატარებელი სანაპიროსკენ დილის შვიდ საათზე გადის.",
    "hy_AM": "Դեպի ծովափ գնացքը մեկնում է առավոտյան ժամը յոթին։",
}


@lru_cache
def of(*languages: str) -> Identifier:
    return Identifier(languages or ALL)


def language(text: str, *languages: str) -> str | None:
    return of(*languages)([text])[0].language


def test_sentences_of_thirty_languages_are_told_among_all_of_xmod_base() -> None:
    found = of()(list(SENTENCES.values()))
    assert [one.language for one in found] == list(SENTENCES)
    assert min(one.confidence for one in found) > THRESHOLD


def test_the_languages_of_the_demo_are_told_apart() -> None:
    for code in LANGUAGES:
        texts = [sentence.text for sentence in sentences(code, 50)]
        found = of(*LANGUAGES)(texts)
        assert sum(one.language == code for one in found) >= 48, code


@pytest.mark.skipif(not DATA.is_dir(), reason="the development data is not here")
def test_sib200_is_told_apart() -> None:
    there = {path.name.split(".")[0]: path for path in sorted(DATA.glob("*.test.jsonl"))}
    codes = [code for code in there if code in ALL]
    right = total = 0
    for code in codes:
        texts = [json.loads(line)["text"] for line in there[code].read_text(encoding="utf-8").splitlines()[::4]]
        right += sum(one.language == code for one in of(*codes)(texts))
        total += len(texts)
    assert len(codes) == 28
    assert right / total > 0.995


def test_the_choice_is_among_the_given_languages() -> None:
    found = of("de_DE", "fr_XX")([SENTENCES["nl_XX"], SENTENCES["fr_XX"]])
    assert [one.language for one in found] == ["de_DE", "fr_XX"]
    assert found[0].confidence < THRESHOLD < found[1].confidence


def test_the_confidence_is_a_share_of_all_languages_not_of_the_given_ones() -> None:
    for code in ("en_XX", "hi_IN", "sv_SE"):
        assert of(code)([SENTENCES[code]]) == of()([SENTENCES[code]])


@pytest.mark.parametrize(
    ("text", "languages", "code"),
    [
        (SENTENCES["zh_CN"], ("zh_TW",), "zh_TW"),
        (SENTENCES["zh_TW"], ("zh_CN", "en_XX"), "zh_CN"),
        ("這裡", ("zh_CN", "zh_TW"), "zh_TW"),
        ("这里", ("zh_TW", "zh_CN"), "zh_CN"),
        # neither is told by characters that both have: the first, unsure
        ("我很想你", ("zh_TW", "zh_CN"), "zh_TW"),
        ("我很想你", ("zh_CN", "zh_TW"), "zh_CN"),
        ("Воз ка обали полази у седам сати ујутру.", ("hr_HR", "sr_RS"), "sr_RS"),
        ("Voz ka obali polazi u sedam sati ujutru, a vraća se uveče.", ("sr_RS", "hr_HR"), "hr_HR"),
        ("Voz ka obali polazi u sedam sati ujutru, a vraća se uveče.", ("sr_RS", "en_XX"), "sr_RS"),
        ("Voz ka obali polazi u sedam sati ujutru, a vraća se uveče.", ("en_XX", "sr_Latn", "sr_RS"), "sr_Latn"),
        ("Toget til kysten går klokka sju om morgenen, men ikke på søndager.", ("nb_NO", "sv_SE", "da_DK"), "nb_NO"),
        ("Eg veit ikkje kva tid toget går frå stasjonen i dag.", ("no_XX", "sv_SE", "da_DK"), "no_XX"),
        ("القطر بتاع اسكندرية بيطلع الساعة سبعة الصبح", ("ar_AR", "fa_IR", "ur_PK"), "ar_AR"),
    ],
)
def test_scripts_and_varieties(text: str, languages: tuple[str, ...], code: str) -> None:
    assert language(text, *languages) == code


def test_chinese_that_both_scripts_have_is_half_of_each() -> None:
    both, one = (of(*codes)(["我很想你"])[0].confidence for codes in (("zh_CN", "zh_TW"), ("zh_CN", "en_XX")))
    assert both == pytest.approx(one / 2)
    assert one > 0.9


def test_which_languages_can_be_told() -> None:
    assert of().known == ALL
    assert of().unknown == ()
    # no label; text in another script than the language's own; a second code of a language; no language
    some = of("gsw", "de_DE", "hi_IN_rom", "my_MM_zaw", "de_CH", "mt", "xx_YY", "hi_IN")
    assert some.known == ("de_DE", "mt", "hi_IN")
    assert some.unknown == ("gsw", "hi_IN_rom", "my_MM_zaw", "de_CH", "xx_YY")


def test_without_a_known_language_nothing_is_told() -> None:
    assert Identifier(["gsw"])(["Guete Morge mitenand, wie gahts eu hüt?"]) == [Identified(None, 0.0)]


@pytest.mark.parametrize(
    "text", ["", " \n\t", "12 345,67 %", "\0" * 9, "😀😀 🎉", "\u200f\u200e\u202e", "--- ... !!!", "ok", "a", "\ud800"]
)
def test_texts_that_say_nothing(text: str) -> None:
    assert of()([text]) == [Identified(None, 0.0)]


@pytest.mark.parametrize("noise", ["\0", "\ud83d", "\u202e", "😀", " "])
def test_noise_around_a_sentence_does_not_hide_it(noise: str) -> None:
    assert language(f"{noise}{SENTENCES['es_XX']}{noise}") == "es_XX"


def test_of_a_long_text_the_beginning_counts() -> None:
    start = " ".join([SENTENCES["el_GR"]] * 30)[:1000]
    assert of()([start + "x" * 1_000_000]) == of()([start])
    assert of()(["1" * 1_000_000]) == [Identified(None, 0.0)]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(alphabet=st.characters(), max_size=60),  # lone surrogates and NUL too
            st.text(alphabet=st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010), max_size=20),
            st.sampled_from(list(SENTENCES.values())).flatmap(
                lambda text: st.tuples(st.text(max_size=5), st.just(text), st.text(max_size=5)).map("".join)
            ),
        ),
        max_size=5,
    )
)
def test_any_text_gets_one_answer_that_does_not_depend_on_the_others(texts: list[str]) -> None:
    found = of()(texts)
    assert found == [of()([text])[0] for text in texts]
    for one in found:
        assert one.language is None or one.language in ALL
        assert 0 <= one.confidence <= 1
        assert (one.language is not None) or one.confidence == 0


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(LanguageError, match="at least one language"):
        Identifier([])
    with pytest.raises(LanguageError, match="give a list of codes"):
        Identifier("de_DE")
    with pytest.raises(InputError, match="give a list of texts"):
        of()("a text")
    with pytest.raises(InputError, match="Text 1 is 3, a int"):
        of()(["a text", 3])  # type: ignore[list-item]


def test_the_tool_is_loaded_on_first_use_and_without_torch() -> None:
    code = (
        "import sys; from xmodular.identification import Identifier; assert 'py3langid' not in sys.modules;"
        "Identifier(['de_DE']); assert 'py3langid' in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def full_width(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


WAYS_TO_SPELL = {
    "full-width letters": full_width,
    "mathematical letters": lambda text: "".join(
        chr(0x1D400 + ord(char) - 65)
        if "A" <= char <= "Z"
        else chr(0x1D41A + ord(char) - 97)
        if "a" <= char <= "z"
        else char
        for char in text
    ),
    "zero-width characters": lambda text: text.replace(" ", " \u200b\ufeff"),
    "marks of direction": lambda text: f"\u200e{text}\u200f",
    "control characters": lambda text: "\x07".join(text),
    "mark-up": lambda text: f'<p class="the"><b>{text}</b></p><!-- and this is a comment in English -->',
    "special tokens": lambda text: f"<s>{text}</s> <pad> <mask>",
}


@pytest.mark.parametrize("way", WAYS_TO_SPELL)
@pytest.mark.parametrize("code", ["en_XX", "de_DE", "sw_KE", "ru_RU", "zh_CN", "fa_IR"])
def test_a_text_is_identified_as_the_model_reads_it(code: str, way: str) -> None:
    (plain, spelt) = of(*ALL)([SENTENCES[code], WAYS_TO_SPELL[way](SENTENCES[code])])
    assert plain.language == spelt.language == code
    assert spelt.confidence == pytest.approx(plain.confidence, abs=0.06)


def test_mark_up_alone_tells_nothing() -> None:
    assert of(*ALL)(["<mask>", "<div class='text'><br/></div>", "<s><pad></s>"]) == [Identified(None, 0.0)] * 3


def test_what_only_looks_like_mark_up_counts() -> None:
    (found,) = of(*ALL)(["<Wenn 5 < 7 ist und 8 > 3, dann stimmt die ganze Rechnung hier."])
    assert found.language == "de_DE"


def test_characters_are_read_as_the_normaliser_of_tokenizers_reads_them() -> None:
    from xmodular.identification.identifier import _as_read

    tokenizer = train_tokenizer({"en_XX": list(SENTENCES.values()) * 20}, 400)
    normaliser = tokenizer.backend_tokenizer.normalizer
    # Precompiled tables know no character that is newer, and spell these three in another order or not at all.
    known = (chr(code) for code in range(1, 0x10000) if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co"))
    known = [char for char in known if char not in "\u0344\uff5e" and unicodedata.ucd_3_2_0.name(char, "")]
    read = [(char, _as_read(f"a{char}b"), normaliser.normalize_str(f"a{char}b")) for char in known]
    assert [each for each in read if each[1] != each[2]] == []


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_normalising_a_text_first_changes_nothing(text: str) -> None:
    assert of(*ALL)([unicodedata.normalize("NFKC", text)]) == of(*ALL)([text])


@pytest.mark.parametrize("table", [pandas.DataFrame({"text": ["Das ist ein Haus."]}), {"text": ["Das ist ein Haus."]}])
def test_the_columns_of_a_table_are_no_texts(table):
    with pytest.raises(InputError, match=rf"texts is a {type(table).__name__}: give one of its columns"):
        Identifier(["de_DE", "en_XX"])(table)
    assert Identifier(["de_DE", "en_XX"])(table["text"])[0].language == "de_DE"
