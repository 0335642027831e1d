"""DAWN as blocks of diffusers' modular pipelines, which call the pipeline's stages."""
