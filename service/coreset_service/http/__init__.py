"""What surrounds every request: problems, middleware, authentication."""
