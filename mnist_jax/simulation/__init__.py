"""Makes pictures such as people send, to measure readers with.

Start with `simulator.py`.
"""
