"""Training of networks that learn laws of motion."""
