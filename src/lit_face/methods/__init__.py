"""One folder a method: module, network, losses, README."""
