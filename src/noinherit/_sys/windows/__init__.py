"""Windows: handles, which children inherit from a helper process."""
