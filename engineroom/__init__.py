"""Engine Room: a course you run on async database engines in Python."""

__version__ = "0.1.0"
