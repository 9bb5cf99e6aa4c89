"""Pure functions on tensors, shapes in the docstring, fp32 inside."""
