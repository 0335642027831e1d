"""How much memory a clip needs, and how much there is."""
