"""A job on one machine, without a service: the process behind `coreset score`."""
