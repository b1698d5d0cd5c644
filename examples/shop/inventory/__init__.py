"""What is in the warehouses, of team logistics."""
