"""Systems that move, how they are integrated, and the networks that learn their laws.

`systems` are known Hamiltonians with their dampings; `integrators` advance any of them, or any network, in
batches; `trajectories` makes the data sets of the published tasks; `networks` learn a vector field, a
Hamiltonian, a Lagrangian.
"""
