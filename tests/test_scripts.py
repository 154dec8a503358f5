"""Scripts of languages, and how much of a text is in them."""

import pytest

from xmodular.errors import LanguageError
from xmodular.languages import closeness
from xmodular.scripts import scripts_of, share_in


@pytest.mark.parametrize(
    ("text", "code", "share"),
    [
        ("Grüezi mitenand, 3 Chüe!", "de_DE", 1.0),
        ("Привет", "de_DE", 0.0),
        ("Привет abc", "ru_RU", 6 / 9),
        ("漢字とカナ", "ja_XX", 1.0),
        ("漢字とカナ", "zh_CN", 2 / 5),
        ("हिन्दी", "hi_IN", 1.0),  # vowel signs are marks, not letters
        ("123 !?", "de_DE", 0.0),
        ("", "de_DE", 0.0),
    ],
)
def test_the_share_of_the_letters(text, code, share):
    assert share_in(text, scripts_of([code])) == pytest.approx(share)


def test_an_unknown_script():
    with pytest.raises(LanguageError, match="nonsense"):
        scripts_of(["nonsense"])


def test_closeness():
    assert closeness("gsw", "de_DE").groups > closeness("gsw", "en_XX").groups > closeness("gsw", "sw_KE").groups == 0
    assert closeness("German", "de_DE") == (99, True, 0)
    assert closeness("hi", "ur_PK").groups >= 2
    assert not closeness("hi", "ur_PK").same_script
    assert closeness("nonsense", "de_DE") is None
