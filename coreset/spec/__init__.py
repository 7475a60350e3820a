"""What a caller may ask for: the job spec and its parts."""
