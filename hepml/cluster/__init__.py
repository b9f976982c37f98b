"""Batch systems: a training or a benchmark as jobs of Slurm (through submitit), of HTCondor, or in the
background of this machine.

A job is a list of words after `hepml`, nothing more, so that what runs in a job is what would run by hand,
and its result is an ordinary run folder. `jobs` says what a job and its resources are, `slurm`, `local` and
`htcondor` hand jobs over.
"""
