"""Option classes of the models and the trainer; importing them never imports torch."""
