"""The raw layouts: each module plans the films of one source and writes its label files."""
