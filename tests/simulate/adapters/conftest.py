import sys
from pathlib import Path

# Processes that compute import the made code by its name.
sys.path.insert(0, str(Path(__file__).parent))
