"""A picture as a notebook keeps it: an image, and the same in words beside it."""

from __future__ import annotations

import base64
from html import escape
from textwrap import wrap

INK, SOFT, LINE, BLUE, RED = "#1c232b", "#4a5460", "#8a939e", "#2459b3", "#b4231f"
_TIED = "\N{NO-BREAK SPACE}"


def figure(picture: str, spoken: str, words: str) -> str:
    """HTML for an SVG; where images are not trusted, the words remain."""
    data = base64.b64encode(picture.encode()).decode()
    return (
        "<figure style='margin:.4em 0'>"
        f"<img src='data:image/svg+xml;base64,{data}' alt='{escape(spoken)}' "
        "style='max-width:100%'>"
        "<figcaption><details><summary>The same in text</summary>"
        f"<pre>{escape(words)}</pre></details></figcaption></figure>"
    )


def svg(width: float, height: float, spoken: str, parts: list[str]) -> str:
    """The picture: dark on a light ground of its own, so it reads on any."""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:g} {height:g}' "
        f"width='{width:g}' height='{height:g}' font-family='sans-serif' font-size='13' "
        f"fill='{INK}'><title>{escape(spoken)}</title>"
        f"<rect width='{width:g}' height='{height:g}' rx='8' fill='#ffffff'/>"
        f"{''.join(parts)}</svg>"
    )


def say(x: float, y: float, words: str, **more: str) -> str:
    """A line of text; ``text_anchor`` becomes ``text-anchor``."""
    extra = "".join(f" {key.replace('_', '-')}='{value}'" for key, value in more.items())
    return f"<text x='{x:g}' y='{y:g}'{extra}>{escape(words)}</text>"


def key(left: float, top: float, width: float, signs: list[str]) -> list[str]:
    """What the signs mean, in as many lines as a picture of that width takes."""
    # Wide enough for any sans-serif; what belongs together is not torn apart.
    most = int((width - left) / 7.4)
    lines = wrap("   ".join(sign.replace(" ", _TIED) for sign in signs), most)
    return [
        say(
            left,
            top + 18 * number,
            line.replace(_TIED, " "),
            fill=SOFT,
            **{"xml:space": "preserve"},
        )
        for number, line in enumerate(lines)
    ]


def table(rows: list[list[str]]) -> str:
    """Rows of text in columns; the first is a row of headings, the first column of names."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.center(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    )
