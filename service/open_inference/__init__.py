"""The Open Inference Protocol, version 2: its tensors and messages as pure functions, and what tensors a model has."""
