"""Encoders, pooling, attention, decoder, detector: modules only, no losses, no files."""
