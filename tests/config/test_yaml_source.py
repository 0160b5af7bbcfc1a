"""The YAML reader: strict, bounded, and never ended by a document."""

from __future__ import annotations

import pytest

from gateway.config.yaml_source import MAX_ALIASES, MAX_DEPTH, read_yaml
from gateway.errors import ConfigError


@pytest.mark.parametrize("text", ["[" * 500_000, "- " * 400_000, "? " * 400_000, "{a: " * 200_000, "a: [1, " * 100_000])
def test_a_document_nested_without_end_is_a_mistake_and_ends_no_process(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_yaml(text, "deep.yaml")
    assert [str(mistake) for mistake in refused.value.mistakes] == [
        f"deep.yaml:1: nested deeper than {MAX_DEPTH} levels"
    ]


def test_a_document_that_repeats_itself_without_end_is_a_mistake() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]", *(f"b{i}: *a" for i in range(MAX_ALIASES + 1))]
    with pytest.raises(ConfigError, match="aliases"):
        read_yaml("\n".join(lines), "laughs.yaml")
    assert read_yaml("\n".join(lines[:-1]), "few.yaml").data["b0"] == ["x"] * 10


def test_the_words_of_yaml_1_1_stay_words() -> None:
    source = read_yaml("a: NO\nb: off\nc: 12:30:45\nd: 010\ne: 2025-07-20\nf: true\ng: 0x1F\nh: 1e3\n", "words.yaml")
    assert source.data == {
        "a": "NO", "b": "off", "c": "12:30:45", "d": 10, "e": "2025-07-20", "f": True, "g": 31, "h": "1e3",
    }  # fmt: skip
    assert source.line(("e",)) == 5


def test_the_line_of_a_mistake_is_one_of_the_file() -> None:
    with pytest.raises(ConfigError) as refused:
        read_yaml("a: 1\nb: [", "open.yaml")
    assert refused.value.mistakes[0].line == 2
