"""Cameras on the network: each is decoded in a process of its own, which may crash or hang and hurts nobody.

`reader`, `decoding`, `slots` and `address` run in that process and import neither the engine nor the web framework.
"""
