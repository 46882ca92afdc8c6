"""The four places a Postgres can come from."""
