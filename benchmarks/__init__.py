"""Measurements against the budgets: ``make bench``."""
