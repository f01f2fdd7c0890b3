"""What Table 1 of the GANDALF paper is made of: its cells, the fits beside them, the swap test."""
