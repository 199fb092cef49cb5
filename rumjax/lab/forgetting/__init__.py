"""People's requests to be forgotten: who asked for what, what was done, and what was measured."""
