"""The `dawn` command."""
