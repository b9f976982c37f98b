"""A trained tagger at work: predict and explain."""
