"""What several readers share: files as they are found, their tables and headers, pixels in order."""
