"""A job on one machine, without a service: what `coreset score` starts."""
