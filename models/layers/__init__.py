"""Parts that models share: likelihoods, Gaussians, noise, and fast forms of convolutions."""
