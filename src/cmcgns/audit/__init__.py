"""The split audit: every leak between splits found, counted and told."""
