"""Engines: where the workers of a comparison run. Local processes, Ray and SLURM, a file each."""
