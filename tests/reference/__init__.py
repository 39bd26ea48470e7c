"""Slow and plain twins that the library is compared with."""
