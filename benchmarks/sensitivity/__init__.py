"""Where each estimator breaks: sweeps of training and of the differences' steps."""
