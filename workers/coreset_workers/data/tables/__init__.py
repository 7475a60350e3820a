"""Pools in files of rows: Parquet, Arrow, csv, tsv and jsonl, read in slices within bounds."""
