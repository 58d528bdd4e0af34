"""Several servers as one: which of them a stream belongs to, and what they tell each other (docs/cluster.md).

An extra: ray. Only the modules that say so import it; where a stream belongs is plain arithmetic.
"""
