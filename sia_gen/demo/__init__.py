"""The whole way on real images, one command."""
