"""Split schemes and nested subsets."""
