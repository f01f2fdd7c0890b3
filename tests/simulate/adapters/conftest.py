import sys
from pathlib import Path

# Worker processes import the mock code by its name.
sys.path.insert(0, str(Path(__file__).parent))
