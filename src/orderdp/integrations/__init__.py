"""One thin file per training framework. Each is imported by its own name, and only where its framework is installed."""
