"""Data sets: how they are loaded from disk, augmented, and read by a DataLoader."""

from orderdp.data.tokens import TokenWindows as TokenWindows
