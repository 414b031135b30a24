# ruff: noqa: RUF001 - other scripts are what is tested
from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatpack_build.vector.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It is on. It is off.", ["It is on.", "It is off."]),
        ("Is it on? Yes! It is.", ["Is it on?", "Yes!", "It is."]),
        ("Ask Dr. Berg or J. Smith. They know.", ["Ask Dr. Berg or J. Smith.", "They know."]),
        ("Use a box, e.g. The Small One. It fits.", ["Use a box, e.g. The Small One.", "It fits."]),
        ("It weighs 3.14 kg. That is little.", ["It weighs 3.14 kg.", "That is little."]),
        ("See fig. 3 and no. 5 in sec. 2. Then go on.", ["See fig. 3 and no. 5 in sec. 2. Then go on."]),
        ("The answer is no. Then ask again.", ["The answer is no.", "Then ask again."]),
        ("It was made in 2019. It still runs.", ["It was made in 2019.", "It still runs."]),
        ("Am 3. Mai kam sie, vgl. Anhang. Er blieb.", ["Am 3. Mai kam sie, vgl. Anhang.", "Er blieb."]),
        ("Den kostar 5 kr. per styck. Köp två.", ["Den kostar 5 kr. per styck.", "Köp två."]),
        ('She said "Stop." He did.', ['She said "Stop."', "He did."]),
        ("Wait... and see. (Really.) Good.", ["Wait... and see.", "(Really.)", "Good."]),
        ("¿Funciona? ¡Sí! Bien.", ["¿Funciona?", "¡Sí!", "Bien."]),
        ("これは一つ。これは二つ！終わり", ["これは一つ。", "これは二つ！", "終わり"]),
        ("यह एक है। यह दो है।", ["यह एक है।", "यह दो है।"]),
        ("Открой файл. Закрой его.", ["Открой файл.", "Закрой его."]),
        ("Run pip install x.y.z now. Done.", ["Run pip install x.y.z now.", "Done."]),
        ("no capital. here either.", ["no capital. here either."]),
        ("", []),
        ("   ", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(st.text(alphabet=st.sampled_from(list("aB1 .!?。\"')(\u201dé\n")), max_size=80))
@settings(max_examples=300, deadline=None)
def test_nothing_but_white_space_is_lost(text: str) -> None:
    assert re.sub(r"\s", "", "".join(split_sentences(text))) == re.sub(r"\s", "", text)


def test_a_paragraph_of_a_million_characters_is_split() -> None:
    text = "A sentence that is not short at all, e.g. this one. " * 20_000
    assert len(split_sentences(text)) == 20_000
