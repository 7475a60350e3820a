"""A shard from end to end, stage by stage, against the model alone."""
