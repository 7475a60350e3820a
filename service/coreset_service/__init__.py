"""The HTTP API of the coreset selection service and its pages."""
