"""Save and load pipelines with their code and card; files for the Hub and for diffusers."""
