"""The whole stack on one machine, as child processes."""
