"""Benchmarks: methods × settings × seeds, one record per run, tables beside the published numbers."""
