"""One module per kind of estimator: from a `Table` to what predicts, in NumPy, at serving time."""
