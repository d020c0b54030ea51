"""What a row means and what is measured on it: pure functions over rows, no Ray, no Prefect, no DuckDB."""
