"""How a verdict looks: a card in a notebook, plain lines anywhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from engineroom.exercises.model import Verdict

# Each tone: a word, a mark and a colour that reads on white and on JupyterLab's dark grey alike
# (at least 4.5 to 1 on both, since only the border and the word carry it beside the text).
TONES = {
    "passed": ("Passed", "✓", "#1a7f4b", "#4cc38a"),
    "failed": ("Not yet", "✗", "#b4231f", "#ff8f88"),
    "not_attempted": ("Not attempted", "○", "#5b6470", "#b3bcc8"),
    "error": ("Your code raised", "!", "#9a5b00", "#f5b95f"),
    "timed_out": ("Out of time", "!", "#9a5b00", "#f5b95f"),
    "out_of_memory": ("Out of memory", "!", "#9a5b00", "#f5b95f"),
    "crashed": ("Your code crashed", "!", "#9a5b00", "#f5b95f"),
}

_STYLE = """<style>
.er-card { --er-tone: var(--er-light); border-left: 4px solid var(--er-tone); padding: .5em .9em;
  margin: .4em 0; max-width: 46em; line-height: 1.5; font-family: inherit; }
.er-card p { margin: .15em 0; }
.er-card .er-word { color: var(--er-tone); font-weight: 600; }
.er-card .er-small { opacity: .8; font-size: .9em; }
.er-card code { font-size: .95em; }
.er-card summary { cursor: pointer; }
[data-jp-theme-light="false"] .er-card { --er-tone: var(--er-dark); }
@media (prefers-color-scheme: dark) {
  :root:not([data-jp-theme-light]) body:not([data-jp-theme-light]) .er-card {
    --er-tone: var(--er-dark); }
}
</style>"""


@dataclass(frozen=True)
class VerdictCard:
    """A verdict as a notebook shows it."""

    verdict: Verdict
    meaning: str = ""
    """What the verdict's code means, from the lesson's page of codes."""

    def _points(self) -> str:
        verdict = self.verdict
        return f"{verdict.points:g} of {verdict.max_points:g} points"

    def __repr__(self) -> str:
        verdict = self.verdict
        word, mark, *_ = TONES[verdict.status]
        lines = [f"{mark} {verdict.exercise}: {word.lower()}, {self._points()}"]
        lines += [f"  {part}" for part in (verdict.message, verdict.where, *verdict.notes) if part]
        if verdict.code:
            page = f", explained in docs/codes/{verdict.lesson}.md" if self.meaning else ""
            lines.append(f"  {verdict.code}{page}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        verdict = self.verdict
        word, mark, light, dark = TONES[verdict.status]
        title = (
            f"<span class='er-word'><span aria-hidden='true'>{mark}</span> {escape(word)}</span> "
            f"<code>{escape(verdict.exercise)}</code> "
            f"<span class='er-small'>{escape(self._points())}</span>"
        )
        parts = [f"<p>{title}</p>"]
        if verdict.message:
            parts.append(f"<p>{marked(verdict.message)}</p>")
        if verdict.where:
            parts.append(f"<p><code>{escape(verdict.where)}</code></p>")
        parts += [f"<p class='er-small'>{escape(note)}</p>" for note in verdict.notes]
        if verdict.code and self.meaning:
            parts.append(
                f"<details class='er-small'><summary>{escape(verdict.code)}: what it means"
                f"</summary><p>{marked(self.meaning)}</p></details>"
            )
        elif verdict.code:
            parts.append(f"<p class='er-small'>{escape(verdict.code)}</p>")
        return (
            f"{_STYLE}<div class='er-card' role='status' "
            f"style='--er-light:{light};--er-dark:{dark}'>{''.join(parts)}</div>"
        )


def marked(text: str) -> str:
    """Escaped, and with what stands between backticks as code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escape(text))


@dataclass(frozen=True)
class HintCard:
    """One hint, and how many there are."""

    text: str
    number: int
    total: int

    def __repr__(self) -> str:
        return f"hint {self.number} of {self.total}: {self.text}"

    def _repr_html_(self) -> str:
        return (
            f"{_STYLE}<div class='er-card' role='note' "
            "style='--er-light:#2459b3;--er-dark:#8ab4ff'>"
            f"<p><span class='er-word'>hint {self.number} of {self.total}</span></p>"
            f"<p>{marked(self.text)}</p></div>"
        )


@dataclass(frozen=True)
class SolutionCard:
    """A right answer, or the question whether it is wanted."""

    exercise: str
    program: str | None

    def __repr__(self) -> str:
        if self.program is None:
            return (
                f"{self.exercise}: run this cell once more to see a solution. It costs no points."
            )
        return f"one solution of {self.exercise}:\n\n{self.program}"

    def _repr_html_(self) -> str:
        if self.program is None:
            inside = "<p>Run this cell once more to see a solution. It costs no points.</p>"
        else:
            inside = f"<p>One solution; there are others.</p><pre>{escape(self.program)}</pre>"
        return (
            f"{_STYLE}<div class='er-card' role='note' "
            "style='--er-light:#2459b3;--er-dark:#8ab4ff'>"
            f"<p><span class='er-word'>solution</span> <code>{escape(self.exercise)}</code></p>"
            f"{inside}</div>"
        )
