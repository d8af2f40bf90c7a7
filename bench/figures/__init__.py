"""One module per figure or family of figures."""
