"""What the documents show: every block of code is checked, and what can run is run."""
