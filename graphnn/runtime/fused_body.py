"""Source of the kernel of a fused body.

Which bodies can be one kernel is a rule of structure alone; it stands in graphnn/ir/iteration_space.py, where the fusion
pass reads it too: `iteration_space(body)` is not None.
"""
