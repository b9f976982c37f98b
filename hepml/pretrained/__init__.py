"""Published weights as hepml models."""
