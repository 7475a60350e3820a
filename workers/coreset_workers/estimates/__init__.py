"""Memory and time of a job, estimated without running it."""
