"""Report text -> sections -> sentences -> tokens."""
