"""The engine: graphs, plans, change and per-stream state. Knows no network and no web framework."""
