"""Metrics, plots and tables of taggers."""
