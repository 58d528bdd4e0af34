"""Bounded loads on a real server on loopback: `python -m benchmarks.soak`. Each says whether it showed what it must."""
