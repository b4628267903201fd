"""The console: read-only pages for operators, on loopback. Needs the extra ``web``; ``scenario-repo console`` opens it.

Nothing here writes, no page holds a key, and no page asks anything of another host. :mod:`.guard` stands before every
request and every answer.
"""
