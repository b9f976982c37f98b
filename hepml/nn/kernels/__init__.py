"""Hand-written passes, each equal to its definition in `hepml.nn`."""
