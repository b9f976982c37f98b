"""MLflow with its local journal."""
