"""What every part uses: guards and their words, files, pixels. No algorithm of diffusion is here."""
