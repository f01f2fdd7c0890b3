"""Which labels the latents of a model contain: probes, leakage, swap test and t-SNE maps."""
