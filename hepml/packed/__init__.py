"""What can be done with packed tensors: segments, dense views, neighbours, pairs, pooling."""
