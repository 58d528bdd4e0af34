"""What speaks to the service from outside: the wire protocol and the clients.

Nothing here knows the server: `clients.wire` is shared by both ends, `clients.python` needs only it. The folder
`browser` has ES modules for web pages.
"""
