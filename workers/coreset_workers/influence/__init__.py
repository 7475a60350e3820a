"""Influence of one plan: its directions, its passes, and what preparing stores."""
