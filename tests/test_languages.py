"""Names of languages: every code from all its forms, what stays apart, and relatives."""

import logging
from itertools import pairwise
from pathlib import Path

import langcodes
import pytest

from xmodular import languages
from xmodular.catalogue import RELEASES
from xmodular.configuration import XmodConfig
from xmodular.errors import ConfigurationError, LanguageError
from xmodular.identification import Identifier
from xmodular.language_meaning import meaning_of
from xmodular.languages import code_problem, english_name, names_of, relatives, resolve, resolve_all

EVERY = [(release.name, code) for release in RELEASES.values() for code in release.languages]
X81 = RELEASES["xmod-base"].languages
X75 = RELEASES["xmod-base-75-269k"].languages

# The languages of FLORES-200 and SIB-200, as these name them.
FLORES = (
    "ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn als_Latn amh_Ethi apc_Arab arb_Arab "
    "arb_Latn ars_Arab ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn "
    "ban_Latn bel_Cyrl bem_Latn ben_Beng bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn "
    "ceb_Latn ces_Latn cjk_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek "
    "eng_Latn epo_Latn est_Latn eus_Latn ewe_Latn fao_Latn fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn "
    "gaz_Latn gla_Latn gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva hne_Deva hrv_Latn "
    "hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn "
    "kan_Knda kas_Arab kas_Deva kat_Geor kaz_Cyrl kbp_Latn kea_Latn khk_Cyrl khm_Khmr kik_Latn kin_Latn kir_Cyrl "
    "kmb_Latn kmr_Latn knc_Arab knc_Latn kon_Latn kor_Hang lao_Laoo lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn "
    "ltg_Latn ltz_Latn lua_Latn lug_Latn luo_Latn lus_Latn lvs_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Arab "
    "min_Latn mkd_Cyrl mlt_Latn mni_Beng mos_Latn mri_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nqo_Nkoo "
    "nso_Latn nus_Latn nya_Latn oci_Latn ory_Orya pag_Latn pan_Guru pap_Latn pbt_Arab pes_Arab plt_Latn pol_Latn "
    "por_Latn prs_Arab quy_Latn ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Olck scn_Latn shn_Mymr sin_Sinh "
    "slk_Latn slv_Latn smo_Latn sna_Latn snd_Arab som_Latn sot_Latn spa_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn "
    "swe_Latn swh_Latn szl_Latn tam_Taml taq_Latn taq_Tfng tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi "
    "tpi_Latn tsn_Latn tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Latn uig_Arab ukr_Cyrl umb_Latn urd_Arab "
    "uzn_Latn vec_Latn vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zsm_Latn "
    "zul_Latn"
)


def language_of(code: str) -> langcodes.Language:
    """The language of a code, with its script where CLDR's usual one would be another code of the model."""
    return langcodes.Language.get("zh-Hant" if code == "zh_TW" else code.partition("_")[0])


@pytest.mark.parametrize(("release", "code"), EVERY)
def test_every_code_of_every_checkpoint_resolves_from_all_its_forms(release: str, code: str) -> None:
    language = language_of(code)
    short, long = str(language), str(language).replace(language.language, language.to_alpha3(), 1)
    forms = {
        "code": code,
        "dashes": code.replace("_", "-"),
        "case": code.lower(),
        "BCP-47": short,
        "ISO 639-3": long,
        "FLORES": f"{language.to_alpha3()}_{language.maximize().script}",
        "English": language.display_name(),
        "lower-case English": language.display_name().lower(),
        "our English": english_name(code),
        "native": language.display_name(language.language),
        "romanised": f"{short}_rom",
        "Zawgyi": f"{code}_zaw",
    }
    assert {form: resolve(name, RELEASES[release].languages) for form, name in forms.items()} == dict.fromkeys(
        forms, code
    )


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("de", "de_DE"),
        ("deu", "de_DE"),
        ("ger", "de_DE"),
        ("de-DE", "de_DE"),
        (" German ", "de_DE"),
        ("Deutsch", "de_DE"),
        ("German (Germany)", "de_DE"),
        ("deu_Latn", "de_DE"),
        ("no", "no_XX"),
        ("nb", "no_XX"),
        ("nob_Latn", "no_XX"),
        ("Norwegian Bokmål", "no_XX"),
        ("zh", "zh_CN"),
        ("Chinese", "zh_CN"),
        ("中文", "zh_CN"),
        ("cmn", "zh_CN"),
        ("zho_Hans", "zh_CN"),
        ("zh-Hant", "zh_TW"),
        ("zh-TW", "zh_TW"),
        ("zho_Hant", "zh_TW"),
        ("cmn-Hant", "zh_TW"),
        ("Chinese (Taiwan)", "zh_TW"),
        ("Traditional Chinese", "zh_TW"),
        ("Chinese (Traditional)", "zh_TW"),
        ("swh", "sw_KE"),
        ("Kiswahili", "sw_KE"),
        ("zsm", "ms_MY"),
        ("lvs", "lv_LV"),
        ("ekk", "et_EE"),
        ("npi", "ne_NP"),
        ("pes", "fa_IR"),
        ("Farsi", "fa_IR"),
        ("azj", "az_AZ"),
        ("khk", "mn_MN"),
        ("uzn", "uz_UZ"),
        ("ory", "or_IN"),
        ("als", "sq_AL"),
        ("kmr", "ku_TR"),
        ("arb", "ar_AR"),
        ("ar-EG", "ar_AR"),
        ("العربية", "ar_AR"),
        ("pbt", "ps_AF"),
        ("fil", "tl_XX"),
        ("tgl", "tl_XX"),
        ("Filipino", "tl_XX"),
        ("eo", "eo_EO"),
        ("epo", "eo_EO"),
        ("Esperanto", "eo_EO"),
        ("srp_Cyrl", "sr_RS"),
        ("Serbian (Cyrillic)", "sr_RS"),
        ("hr", "hr_HR"),
        ("pt-BR", "pt_XX"),
        ("Brazilian Portuguese", "pt_XX"),
        ("Українська", "uk_UA"),
        ("日本語", "ja_XX"),
        ("Hindi language", "hi_IN"),
        ("hi_IN_rom", "hi_IN"),
        ("hi-rom", "hi_IN"),
        ("my_zaw", "my_MM"),
        ("my_MM_zaw", "my_MM"),
    ],
)
def test_names_of_the_81(name: str, code: str) -> None:
    assert resolve(name, X81) == code


@pytest.mark.parametrize(
    ("name", "code"),
    [("bos", "bs_BA"), ("gaz", "om_KE"), ("plt", "mg_MG"), ("ydd_Hebr", "yi_DE"), ("brezhoneg", "br_FR")],
)
def test_names_of_the_75(name: str, code: str) -> None:
    assert resolve(name, X75) == code


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("yue", "zh_TW"),  # Cantonese is not Mandarin
        ("Cantonese", "zh_TW"),
        ("nn", "no_XX"),
        ("arz", "ar_AR"),
        ("arb_Latn", "ar_AR"),
        ("sr-Latn", "sr_RS"),
        ("srp_Latn", "sr_RS"),
        ("Serbian Latin", "sr_RS"),
        ("sh", "sr_RS"),
        ("bs", "hr_HR"),
        ("ckb", "ku_TR"),
        ("azb", "az_AZ"),
        ("prs", "fa_IR"),
        ("zh-HK", "zh_TW"),
        ("de-AT", "de_DE"),
        ("gsw", "de_DE"),
        ("Germn", "de_DE"),
        ("Swahilli", "sw_KE"),
        ("dee_DE", "de_DE"),
    ],
)
def test_what_is_near_is_not_taken_but_named(name: str, hint: str) -> None:
    with pytest.raises(LanguageError, match=rf"no language '{name}' here: [^.?]*{hint}.*en_XX, id_ID, .*, sa_IN\.$"):
        resolve(name, X81)


@pytest.mark.parametrize("name", ["", " ", "Klingon", "x-foo", "und", "mul", "xx", "Germanic tribes", "_rom", "123"])
def test_what_is_no_language_of_the_model(name: str) -> None:
    with pytest.raises(LanguageError, match="The languages are: en_XX, id_ID"):
        resolve(name, X81)


def test_a_name_is_text() -> None:
    with pytest.raises(LanguageError, match="got 3"):
        resolve(3, X81)  # type: ignore[arg-type]
    with pytest.raises(LanguageError, match=r"such as \['de'\]"):
        resolve_all("de", X81)


def test_the_nearer_meaning_goes_first() -> None:
    assert resolve("nn", ("no_XX", "nn_NO")) == "nn_NO"
    assert resolve("nno", ("no_XX", "nn_NO")) == "nn_NO"
    assert resolve("no", ("nn_NO", "no_XX")) == "no_XX"
    assert resolve("nb", ("no_XX", "nb_NO")) == "nb_NO"
    assert resolve("tl", ("fil_PH", "tl_XX")) == "tl_XX"
    assert resolve("cmn", ("zh_CN", "cmn_CN")) == "cmn_CN"
    assert resolve("pt-BR", ("pt_XX", "pt_PT", "pt_BR")) == "pt_BR"
    assert resolve("pt", ("pt_PT", "pt_XX")) == "pt_XX"
    assert resolve("sr-Latn", ("sr_RS", "sr_Latn")) == "sr_Latn"
    assert resolve("sr", ("sr_RS", "sr_Latn")) == "sr_RS"


def test_a_name_of_several_codes_is_ambiguous() -> None:
    with pytest.raises(
        LanguageError, match=r"'German' is ambiguous: it could be de_DE or de_CH\. .*de_DE, de_CH, fr_CH"
    ):
        resolve("German", ("de_DE", "de_CH", "fr_CH"))
    with pytest.raises(LanguageError, match="ambiguous"):
        resolve("de", ("de_DE", "de_CH"), fallback="relative")
    assert resolve("de-CH", ("de_DE", "de_CH")) == "de_CH"


def test_fairseq_marks_count_where_the_model_has_them() -> None:
    codes = ("hi_IN", "hi_IN_rom", "my_zaw")
    assert [resolve(name, codes) for name in ("hi_rom", "Hindi_rom", "hi", "Hindi", "hin")] == [
        "hi_IN_rom",
        "hi_IN_rom",
        "hi_IN",
        "hi_IN",
        "hi_IN",
    ]
    assert resolve("my_MM_zaw", codes) == "my_zaw"
    with pytest.raises(LanguageError, match="did you mean my_zaw"):
        resolve("Burmese", codes)


def test_several_names() -> None:
    assert resolve_all(["German", "sw"], X81) == ["de_DE", "sw_KE"]
    with pytest.raises(LanguageError, match="'deu' means de_DE, which is named twice"):
        resolve_all(["German", "deu"], X81)
    with pytest.raises(LanguageError, match="no language is given"):
        resolve_all([], X81)
    with pytest.raises(LanguageError, match="'bar' means de_DE, which is named twice"):
        resolve_all(["gsw", "bar"], X81, fallback="relative")


def test_codes_need_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "langcodes", None)
    assert resolve("de_DE", (*X81, "not_a_tag_at_all")) == "de_DE"
    assert resolve("DE-de", (*X81, "neither_is_this")) == "de_DE"


def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = [*X81, "looked_up_once"]
    assert resolve("Deutsch", codes) == "de_DE"
    monkeypatch.setattr(languages, "langcodes", None)
    assert resolve("Deutsch", list(codes)) == "de_DE"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("gsw", "de_DE"),
        ("gsw-BE", "de_DE"),
        ("Swiss German", "de_DE"),
        ("bar", "de_DE"),
        ("lb", "de_DE"),
        ("de-AT", "de_DE"),
        ("nn", "no_XX"),
        ("fo", "is_IS"),
        ("sco", "en_XX"),
        ("pcm", "en_XX"),
        ("oc", "ca_ES"),
        ("ast", "es_XX"),
        ("scn", "it_IT"),
        ("frp", "fr_XX"),
        ("ht", "fr_XX"),
        ("szl", "pl_PL"),
        ("rue", "uk_UA"),
        ("sr-Latn", "hr_HR"),  # in the same letters, as identification has it
        ("sh", "hr_HR"),
        ("ur-Deva", "hi_IN"),
        ("pa-Arab", "pa_IN"),  # none of its group is in the same letters
        ("rm", "it_IT"),
        ("fur", "it_IT"),
        ("fy", "nl_XX"),
        ("frr", "de_DE"),
        ("bs", "hr_HR"),  # hr and sr are equally near; the script decides
        ("arz", "ar_AR"),
        ("mt", "ar_AR"),
        ("ti", "am_ET"),
        ("yue", "zh_TW"),  # zh_CN is equally near; Cantonese is written in traditional characters as a rule
        ("yue-Hans", "zh_CN"),
        ("prs", "fa_IR"),
        ("tg", "fa_IR"),
        ("bho", "hi_IN"),
        ("ltg", "lv_LV"),
        ("tt", "kk_KZ"),
        ("zu", "sw_KE"),
        ("hi_rom", "hi_IN"),
    ],
)
def test_nearest_relative(name: str, code: str) -> None:
    assert resolve(name, X81, fallback="relative") == code


def test_serbian_in_latin_letters_goes_where_identification_takes_it() -> None:
    text = "Beograd je glavni grad Srbije i nalazi se na ušću Save u Dunav."
    for codes in (X81, ("sr_RS", "en_XX", "hr_HR"), ("sr_RS", "en_XX")):
        assert Identifier(codes)([text])[0].language == resolve("sr-Latn", codes, fallback="relative")


def test_a_fallback_is_reported_once_and_only_where_it_is_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "xmodular.languages"):
        assert resolve("de", X81, fallback="relative") == "de_DE"
        assert not caplog.messages
        for _ in range(2):
            caplog.clear()
            assert resolve_all(["gsw", "en"], X81, fallback="relative") == ["de_DE", "en_XX"]
            assert caplog.messages == ["gsw is not in the model: using the adapter of its nearest relative, de_DE"]


@pytest.mark.parametrize("name", ["ka", "eu", "ko", "tr", "hu", "el", "hy"])
def test_a_family_alone_makes_no_relatives(name: str) -> None:
    codes = ("en_XX", "ru_RU", "hi_IN", "fa_IR", "fi_FI", "ar_AR", "sw_KE")
    with pytest.raises(LanguageError, match=rf"'{name}' here, and no closely related one.*en_XX, ru_RU"):
        resolve(name, codes, fallback="relative")
    assert relatives(name, codes) == []


def test_a_misspelled_name_has_no_fallback() -> None:
    with pytest.raises(LanguageError, match="no language 'Germn' here: did you mean de_DE"):
        resolve("Germn", X81, fallback="relative")


def test_fallbacks_are_named() -> None:
    with pytest.raises(LanguageError, match="fallback must be None or 'relative'; got 'nearest'"):
        resolve("de_DE", X81, fallback="nearest")


def test_relatives_are_ordered() -> None:
    assert relatives("gsw", X81)[:4] == ["de_DE", "nl_XX", "af_ZA", "en_XX"]
    assert relatives("de", X81)[:2] == ["nl_XX", "af_ZA"]  # itself is left out
    assert relatives("de-AT", ("nl_XX", "de_CH", "de_DE")) == ["de_CH", "de_DE", "nl_XX"]  # the same language first
    assert relatives("uk", ("bg_BG", "pl_PL", "ru_RU", "lt_LT")) == ["ru_RU", "bg_BG", "pl_PL"]  # depth, then script
    assert relatives("ur", ("bn_IN", "sd_PK", "hi_IN")) == ["hi_IN", "sd_PK", "bn_IN"]
    assert relatives("tlh", X81) == []


def test_the_tree_knows_every_language_of_the_catalogue_and_of_flores() -> None:
    names = {code for _, code in EVERY} | set(FLORES.split())
    unknown = [name for name in sorted(names) if not languages._lineage(meaning_of(name, code=True))]
    assert not unknown


def test_the_tree_is_well_formed() -> None:
    text = Path(languages.__file__).with_name("relatives.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    depths = [(len(line) - len(line.lstrip())) / 2 for line in lines]
    assert depths[0] == 0
    assert all(depth.is_integer() for depth in depths)
    assert all(below <= above + 1 for above, below in pairwise(depths))
    assert all(":" in line for line in lines)
    members = [language for language, _ in languages._branches(text)]
    assert len(members) == len(set(members)), "a language stands in two places"
    for language in members:
        assert langcodes.tag_is_valid(language), language
        assert len(languages._lineage(meaning_of(language))) >= 2, f"{language} can have no relatives"
        assert language in languages._tree()


def test_english_names() -> None:
    names = {
        code: english_name(code) for code in ("de_DE", "zh_CN", "zh_TW", "eo_EO", "tl_XX", "gsw", "unheard_of_here")
    }
    assert names == {
        "de_DE": "German",
        "zh_CN": "Chinese",
        "zh_TW": "Chinese (Traditional)",
        "eo_EO": "Esperanto",
        "tl_XX": "Filipino",
        "gsw": "Swiss German",
        "unheard_of_here": "unheard_of_here",
    }


@pytest.mark.parametrize("name", ["de\x00", "\ud800", "de\n", "x" * 100_000, " ".join("ab" * 600), ""])
def test_what_no_name_can_be_is_a_language_error(name: str) -> None:
    with pytest.raises(LanguageError) as caught:
        resolve(name, ["de_DE", "en_XX"])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("code", sorted({code for release in RELEASES.values() for code in release.languages}))
def test_every_code_has_names(code: str) -> None:
    names = names_of(code)
    assert all(names.values()), names
    assert english_name(code) == names["english"]
    assert resolve(str(names["bcp47"]), [code]) == code


def test_names_leave_invented_regions_out() -> None:
    assert names_of("ar_AR") == {"english": "Arabic", "native": "العربية", "bcp47": "ar"}
    assert names_of("eo_EO")["bcp47"] == "eo"
    assert names_of("zh_TW")["english"] == "Chinese (Traditional)"
    assert names_of("xx_nothing_at_all") == {"english": None, "native": None, "bcp47": None}


@pytest.mark.parametrize(("code", "name"), [("to", "Tongan"), ("cpu", "cpu"), ("pop", "pop")])
def test_a_code_that_modules_have_for_themselves_says_which_to_use(code: str, name: str) -> None:
    """Tongan is `to`, and a torch module has a method of that name."""
    problem = code_problem(code)
    assert problem is not None
    usable = f"{code}_XX"
    assert f"such as {usable!r}; {code!r} will then refer to it" in problem
    assert code_problem(usable) is None
    assert resolve(code, ["en_XX", usable]) == resolve(name, ["en_XX", usable]) == usable
    with pytest.raises(ConfigurationError, match=usable):
        XmodConfig(languages=["en_XX", code])
