"""Finding thresholds for a model from clips: what each step saves and what it costs the outputs."""
