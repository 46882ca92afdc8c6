"""For each exercise, wrong answers that look right: a module a lesson."""
