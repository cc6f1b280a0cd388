"""Who may call, and how much: authentication now, keys, limits and policy in their own issues."""
