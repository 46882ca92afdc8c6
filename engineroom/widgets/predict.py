"""A question before a cell: choose, then run the cell and see."""

from __future__ import annotations

from html import escape
from typing import Any


class Prediction:
    """A question with its choices; what is chosen stays in ``choice`` until the kernel ends."""

    def __init__(self, question: str, choices: tuple[str, ...]) -> None:
        self.question = question
        self.choices = choices
        self.choice: str | None = None

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Buttons where a kernel lives, and the same question as text where none does."""
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self._as_html()}
        buttons = self._buttons()
        if buttons is not None:
            bundle |= buttons._repr_mimebundle_()
            bundle["text/plain"], bundle["text/html"] = repr(self), self._as_html()
        return bundle

    def _buttons(self) -> Any:
        try:
            import ipywidgets
        except ImportError:
            return None
        radio = ipywidgets.RadioButtons(
            options=self.choices,
            value=None,
            layout={"width": "max-content"},
            style={"description_width": "0"},
        )
        said = ipywidgets.HTML("Choose, then run the next cell.")

        def chosen(change: dict[str, Any]) -> None:
            self.choice = change["new"]
            said.value = f"You say: <b>{escape(str(self.choice))}</b>. Now run the next cell."

        radio.observe(chosen, "value")
        question = ipywidgets.HTML(f"<b>Predict.</b> {escape(self.question)}")
        return ipywidgets.VBox([question, radio, said])

    def _as_html(self) -> str:
        items = "".join(f"<li>{escape(choice)}</li>" for choice in self.choices)
        return f"<p><b>Predict.</b> {escape(self.question)}</p><ul>{items}</ul>"

    def __repr__(self) -> str:
        return "\n".join([f"Predict. {self.question}", *(f"  ( ) {c}" for c in self.choices)])


def predict(question: str, *choices: str) -> Prediction:
    """Ask before a cell is run; nothing is judged, running the cell answers it."""
    return Prediction(question, choices)
