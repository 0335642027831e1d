"""What networks are asked for: losses, targets, where they count, a discriminator."""
