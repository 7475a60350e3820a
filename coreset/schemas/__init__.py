"""What the service and the workers answer and store: models only."""
