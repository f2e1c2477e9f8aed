"""The convolutional VAE of likelihood regret, and the bounds on its importance samples."""
