"""What a record is: its fields, and how it becomes tensors."""
