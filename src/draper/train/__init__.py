"""The one training loop; this folder knows no astronomy."""
