"""The chart of tables: the same in a picture, in text and in sentences."""

from __future__ import annotations

import base64
import re

from engineroom.widgets.chart import Box, Chart, Column


def made() -> Chart:
    island = Box("island", [Column("id", "integer", ["key"])])
    pier = Box(
        "pier",
        [Column("island_id", "integer", ["index"], "island"), Column("label", "text", ["NULL"])],
        ["CHECK (label <> '<b>')"],
    )
    return Chart([island, pier])


def picture(chart: Chart) -> str:
    (data,) = re.findall("base64,([^']+)", chart._repr_html_())
    return base64.b64decode(data).decode()


def test_text_has_a_line_for_each_column_and_says_where_it_points() -> None:
    assert repr(made()).splitlines() == [
        "island",
        "  id  integer key",
        "pier",
        "  island_id  integer index -> island",
        "  label      text NULL",
        "  CHECK (label <> '<b>')",
    ]


def test_the_picture_is_an_image_with_sentences_beside_it() -> None:
    assert (
        "alt='Table island: id integer key. Table pier: island_id integer index, points to "
        "island; label text NULL; CHECK (label &lt;&gt; &#x27;&lt;b&gt;&#x27;).'"
    ) in made()._repr_html_()
    assert "<b>" not in picture(made())


def test_who_points_stands_right_of_what_it_points_to() -> None:
    island, pier = re.findall(r"<text x='([\d.]+)'[^>]*font-weight='bold'", picture(made()))
    assert float(island) < float(pier)


def test_tables_that_point_to_each_other_are_drawn_all_the_same() -> None:
    here, there = Box("here", [Column("a", "int", [], "there")]), Box("there")
    there.columns.append(Column("b", "int", [], "here"))
    assert "here" in picture(Chart([here, there]))
    assert picture(Chart([])).startswith("<svg")
