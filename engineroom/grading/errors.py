"""What is said of a submission that cannot be read."""

from __future__ import annotations


class UnreadableError(Exception):
    """Why a submission cannot be read, for the instructor who may ask for another."""
