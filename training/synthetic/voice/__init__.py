"""Who speaks and what: real recordings with aligned phonemes, and the sounds and sentences of languages."""
