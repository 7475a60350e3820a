"""Trainings that are done again without some of their samples: the truth that the estimators are held to."""
