"""Serving to phones in the same network: addresses, a certificate, codes that let a device in, HTTPS."""
