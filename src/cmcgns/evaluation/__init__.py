"""Linear probe, detector, segmenter and their metrics."""
