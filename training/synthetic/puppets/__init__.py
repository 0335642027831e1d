"""Photo puppets: still portraits that a morphable head moves, with exact motion and visibility."""
