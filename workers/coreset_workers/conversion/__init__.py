"""WebDataset shards of a pool in any format: the process behind `coreset convert`."""
