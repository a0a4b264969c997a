"""Long runs: several processes, precision, recipes, the files of a run. The command line calls these."""

from ddpm_core.scale.export import export_diffusers
