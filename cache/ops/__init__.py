"""One file per op: whether a node can be cached, how it joins a plan, and its step. The table is in `cache.lowering`."""
