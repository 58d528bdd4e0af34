"""The default model: its recipe, its evaluation and its file."""
