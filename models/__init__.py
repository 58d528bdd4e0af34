"""The default model with its recipe, and the catalogue of public ones."""
