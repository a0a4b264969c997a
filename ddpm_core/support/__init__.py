"""What every part uses and nothing of diffusion: guards and their words, files, pixels."""
