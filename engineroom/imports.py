"""What is not imported, since all would wait for it and nobody uses it."""

from __future__ import annotations

import sys


def skip_grammars() -> None:
    """Keep jsonschema, without which no notebook is read, from what takes it over a second.

    It can check that a text is an IRI if rfc3987-syntax is installed, which some of Jupyter's
    packages ask for; at its import that makes 38 parsers. No schema of Jupyter's has an IRI, and
    jsonschema does without. To be called before nbformat, jupytext or Jupyter is imported.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
