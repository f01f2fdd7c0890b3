"""What verbs return: estimates and their summaries."""
