"""Reading scores and samples for people: tables, pages, summaries, exports."""
