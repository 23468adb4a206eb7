"""PyTorch reference model of the InternLM-XComposer2 family, for tests and for training."""
