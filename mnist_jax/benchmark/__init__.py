"""Measures speed: of one machine, as the work grows, and against other frameworks.

Open `measure.py` first: it lists the measurements. `workloads` says what is measured
and for how long; `flops` counts the operations of a model; `scaling` measures how costs
grow; `compare` runs the same work in other frameworks, which are in `peers`; `reading`
reads pictures, in turn with RapidOCR.

Others may use the public names of `measure`, `workloads`, `scaling`, `compare` and
`reading`.
"""
