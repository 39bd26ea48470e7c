"""The version, for every layer."""

__version__ = "0.2.0"
