"""Diffusion models: a U-Net that predicts noise, its bound, paths and samples."""
