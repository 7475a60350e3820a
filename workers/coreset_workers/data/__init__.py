"""Samples from WebDataset shards: listing, reading, decoding, and the reference batch."""
