"""Networks and losses; this folder knows no astronomy."""
