"""Records of entries: their files, what they must look like, which entries their keys name."""
