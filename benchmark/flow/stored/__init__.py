"""What a store holds of earlier jobs: runs by their images, the networks of fits."""
