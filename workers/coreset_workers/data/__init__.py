"""Samples from a pool's shards, in any format: listing, reading, decoding, and the reference batch."""
