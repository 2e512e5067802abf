"""One module per folder of cases; each registers handlers."""
