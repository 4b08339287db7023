"""What engines can do, and which workers offer them."""
