"""Selection from large pools: two passes over the parts, with one number per row and score in memory.

The first pass (`scan`) reads each part once and writes what the cut needs as columns in the order of the rows. Ranks,
copies and the cut come from these columns (`ranks`, `copies`, `cut`); the second pass (`subset`) reads the selected
rows. The result is that of the SQL in `coreset.selection`, to the byte; `run` says which rules only the SQL knows.
"""

__all__: list[str] = []
