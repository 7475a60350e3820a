"""HTTP API of the coreset selection service, and its pages: `app.create_app`, or `python -m coreset_service`."""

__all__: list[str] = []  # importing the app here would load all of it before each of its own modules
