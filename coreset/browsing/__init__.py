"""Reading a job's result: score tables, summaries, samples, exports."""
# pyright: reportUnsupportedDunderAll=false

__all__ = ["cut_diff", "evaluated_cuts", "sample_pages", "score_query", "score_rows", "score_table", "summary"]
