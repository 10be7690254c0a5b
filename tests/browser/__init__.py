"""What people see and do in the console, in a real browser over a real installation."""
