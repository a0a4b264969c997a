"""The code that an exported folder carries with it. diffusers runs it there; nothing here imports it."""
