"""Data sets: how they are loaded from disk, augmented, and read by a DataLoader."""
