"""The stages of a job: plan, prepare, score, merge, finish, and the preflight."""
