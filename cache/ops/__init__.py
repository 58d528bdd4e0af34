"""One file per op: whether a node can be cached, how it joins a plan, its step. The table is in `cache.lowering`."""
