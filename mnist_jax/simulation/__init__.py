"""Makes pictures such as people send, to measure readers with.

Open `simulator.py` first: `samples` makes pictures under every condition, of digits and
of what is no digit, and `measure_conditions` reads them with a model. `scenes` has the
effects of pens, paper, light and cameras.

Others may use the public names of `simulator`.
"""
