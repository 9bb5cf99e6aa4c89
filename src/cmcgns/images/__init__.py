"""Files -> pixels -> the 256 px store, and the transforms that read it."""
