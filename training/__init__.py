"""Train every part of DAWN from any folder of talking videos."""
