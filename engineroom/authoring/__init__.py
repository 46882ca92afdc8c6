"""From a lesson's source to its notebooks, and the proof that they are sound."""

from engineroom.imports import skip_grammars

skip_grammars()
