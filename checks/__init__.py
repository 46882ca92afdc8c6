"""What each exercise must do: a module a lesson."""
