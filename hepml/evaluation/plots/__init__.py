"""Pictures of scores, rejections, jets and benchmarks."""
