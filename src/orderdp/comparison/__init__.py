"""Many runs: which ones, who trains them, what came out, what it shows."""
