"""Public data sets: fetching and converting them."""
