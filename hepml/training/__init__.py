"""Training: run configuration, Lightning module, checkpoints, prediction."""
