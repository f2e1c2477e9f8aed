"""oodbench: unsupervised out-of-distribution detection with deep generative models, benchmarked."""
