"""The command `surprisal`: one file a command; training and service are imported inside the one that needs them."""
