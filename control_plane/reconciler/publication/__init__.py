"""When names lead where: never to an instance whose certificate lacks them.

``names`` holds a new route back, and keeps an old one in certificates. ``uncertified`` says to
which instances a name must not lead yet, ``returning`` which resolvers are away, and ``recovery``
what of this follows from the disk after a restart.
"""
