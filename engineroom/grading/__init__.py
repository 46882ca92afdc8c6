"""Grading a folder of submissions: read, judge, write down."""
