"""PyTorch networks, losses, data and the training loop."""
