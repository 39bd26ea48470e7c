"""One thin file per training framework. Each is imported by its name, and only then loads its framework."""
