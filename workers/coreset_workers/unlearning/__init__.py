"""The weights of a training with the influence of some samples removed: a command, without queue or service."""
