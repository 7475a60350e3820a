"""The workers of the coreset selection service: scoring, merging, reporting."""
