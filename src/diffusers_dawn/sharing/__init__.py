"""Save and load pipelines with their code and card; write files for the Hub and for diffusers."""
