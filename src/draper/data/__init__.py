"""The three data types, the native file and the readers of everything else. Never imports torch."""
