"""Plain NumPy twins of kernels: same file names, same signatures, no speed; tests hold each pair together.

A twin shows what its kernel means; scratch is ignored. See the kernel's docstring for the arguments.
"""
