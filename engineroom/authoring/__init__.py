"""From a lesson's source to its notebooks, and the proof that they are sound."""
