"""How does one prompt become one recorded run? Requests, sessions, and the handle that
people hold.
"""
