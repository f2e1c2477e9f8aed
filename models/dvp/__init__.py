"""The DVP-VAE: a ladder VAE with a pseudo-input and a diffusion prior."""
