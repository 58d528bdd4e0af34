"""The service: model families, preprocessing, codecs, sources, and the server around the engine."""
