"""What the latents of a model tell about labels: probes, leakage, swap test and maps."""
