"""The list of runs, code fingerprints, and what Snakemake and DVC call."""
