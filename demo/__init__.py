"""A pool of drawn image-text pairs and a CLIP training run on it, for trying the service on one machine."""
