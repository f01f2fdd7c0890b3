"""The training loop; nothing here depends on astronomy."""
