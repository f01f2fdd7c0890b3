"""What stands between a star and its recorded spectrum: pure torch functions and transforms."""
