"""Pictures of results: heat maps over images, comparison grids, PNG files; no mathematics of CAMs."""
