"""Proxies: small models trained from scratch on a selection, to see what it is worth (docs/quality.md)."""
