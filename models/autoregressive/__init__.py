"""Autoregressive models: PixelCNN++."""
