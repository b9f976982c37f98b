"""Files to `JetBatch`: layouts, reader, packing, cache, loader."""
