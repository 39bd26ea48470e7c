"""The version of orderdp, which every layer may import."""

__version__ = "0.2.0"
