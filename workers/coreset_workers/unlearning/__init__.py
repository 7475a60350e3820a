"""Trained weights with the influence of some samples removed: the process behind `coreset forget`."""
