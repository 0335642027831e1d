"""The studio: a page in the browser that does what `dawn animate` does."""
