"""What is counted, logged and traced, right across workers."""
