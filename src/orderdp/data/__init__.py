"""Data sets: as they lie on disk, in memory and in files, and as a DataLoader reads them."""
