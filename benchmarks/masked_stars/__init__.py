"""Parts of the benchmark of the masked autoencoder."""
