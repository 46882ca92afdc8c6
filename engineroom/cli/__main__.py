"""``python -m engineroom.cli`` does what ``engineroom`` does."""

from engineroom.cli import main

main()
