"""The grid of attempts: the same in a picture, in text and in sentences."""

from __future__ import annotations

import base64
import re

import pytest

from engineroom.widgets import Grid


def made() -> Grid:
    grid = Grid("mode", ["the database", "a <stranger>"])
    grid.mark("disable", "the database", "bad", "let in, in clear")
    grid.mark("disable", "a <stranger>", "bad", "let in")
    grid.mark("verify-full", "a <stranger>", "good", "turned away")
    return grid


def test_text_has_signs_and_words_and_leaves_an_untried_field_empty() -> None:
    assert repr(made()).splitlines() == [
        "mode         the database        a <stranger>",
        "disable      ✗ let in, in clear  ✗ let in",
        "verify-full                      ✓ turned away",
    ]


def test_the_picture_is_an_image_with_sentences_beside_it() -> None:
    html = made()._repr_html_()
    assert "alt='disable: the database, let in, in clear; a &lt;stranger&gt;, let in." in html
    (data,) = re.findall("base64,([^']+)", html)
    svg = base64.b64decode(data).decode()
    assert svg == made().svg()
    assert "<stranger>" not in svg
    assert svg.count("✓") == 1
    assert svg.count("✗") == 2


def test_what_was_not_asked_for_is_no_column() -> None:
    with pytest.raises(ValueError, match="column 'Tern'"):
        made().mark("disable", "Tern", "good", "")
