"""The course around the package: exercises and their checks, figures and widgets, the doctor."""
