"""Views of a `JetBatch`: dense, graph, image, sequence, tree."""
