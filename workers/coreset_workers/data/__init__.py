"""Samples from WebDataset shards: listing, reading, decoding, and the reference batch."""

__all__ = ["announced", "decode", "listing", "loader", "named", "oddities", "opening", "prefetch", "reference", "tar"]
