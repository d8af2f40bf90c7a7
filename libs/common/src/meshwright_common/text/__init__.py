"""What texts are made of: scripts, words."""
