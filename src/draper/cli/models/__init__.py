"""Commands of one family of models each; a config class names those of its model."""
