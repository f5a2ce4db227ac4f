"""`POST /score`, in every format, whole and line by line."""
