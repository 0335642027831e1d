"""Make, store and read prepared data sets, and draw samples from them."""
