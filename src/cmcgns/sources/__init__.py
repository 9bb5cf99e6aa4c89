"""One file per data set: its raw layout -> the index table."""
