"""Neural networks: UNets, the noisy-image classifier, DDIM inversion."""
