"""jnas: differentiable neural architecture search in JAX."""
