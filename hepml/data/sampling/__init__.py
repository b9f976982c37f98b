"""Which jets, how often and with what weight: splits by event, samples with cross-sections, reweighting."""
