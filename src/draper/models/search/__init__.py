"""Search the options of any model: one search for the best values, and tables of many runs."""
