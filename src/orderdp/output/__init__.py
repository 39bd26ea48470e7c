"""Output: complete files, tables of text, plots, and suggestions for mistyped names."""
