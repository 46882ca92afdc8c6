"""The pictures that the notebooks keep, as a browser paints them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
from browser_helpers import chromium
from lab_helpers import ROOT

pytestmark = pytest.mark.browser

_DATA = re.compile(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)")

# The words of a picture that are cut off at its edge, and pairs of words that lie on each other.
_TROUBLE = """() => {
  const picture = document.querySelector("svg").getBoundingClientRect();
  const words = [...document.querySelectorAll("text")].filter((e) => e.textContent.trim())
    .map((e) => [e.textContent, e.getBoundingClientRect()]);
  const cut = words.filter(([, b]) => b.left < picture.left || b.right > picture.right
    || b.top < picture.top || b.bottom > picture.bottom).map(([text]) => text);
  const over = words.flatMap(([one, a], i) => words.slice(i + 1).filter(([, b]) =>
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 4 && b.top < a.bottom - 4
  ).map(([two]) => one + " / " + two));
  return {words: words.length, cut, over};
}"""


def pictures() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.glob("solutions/pictures/*.svg")):
        yield path.name, path.read_text("utf-8")
    for folder in ("notebooks", "solutions"):
        for path in sorted((ROOT / folder).glob("*.ipynb")):
            for number, cell in enumerate(nbformat.read(path, 4).cells):
                for output in cell.get("outputs", []):
                    for found in _DATA.findall(
                        "".join(output.get("data", {}).get("text/html", ""))
                    ):
                        picture = base64.b64decode(found).decode("utf-8")
                        yield f"{folder}/{path.name}, cell {number}", picture


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with chromium() as (kind, program):
        browser = kind.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser.new_page()
        browser.close()


def test_all_words_of_every_picture_can_be_read(page: Any) -> None:
    trouble, looked_at = {}, 0
    for where, picture in pictures():
        page.set_content(picture)
        seen = page.evaluate(_TROUBLE)
        assert seen["words"], where
        if seen["cut"] + seen["over"]:
            trouble[where] = seen
        looked_at += 1
    assert not trouble
    assert looked_at > 20
