"""Judges trained models: scores, corruptions, rankings, sweeps, plots and reports.

Start with `scores.py`.
"""
