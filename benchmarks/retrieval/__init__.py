"""Parts of ``benchmarks/retriever.py``, one a file."""
